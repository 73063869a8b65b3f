"""Any Keras 3 model, with exact maps, checked against its own output."""
