"""What is drawn: legends, figures for papers, contact sheets."""
