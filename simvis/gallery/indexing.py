"""A folder's images through a network, into the rows of a gallery's table."""

from simvis.batch.pipeline import BATCH_SIZE, stream_activations
from simvis.gallery.table import row_of


def embed_rows(images, listed, paths, network, batch_size=BATCH_SIZE):
    """Yield the row of each image, for a gallery's table.

    Parameters
    ----------
    images : ImageFolder
    listed : dict of path to File
    paths : list of str
    network : EmbeddingNetwork
    batch_size : int, how many images go through the network at once

    Yields
    ------
    row : image_table.Row
    """
    from threadpoolctl import threadpool_limits

    def run(batch):
        _, embeddings = network.run(batch, need="embeddings")
        return embeddings, embeddings  # of activations there is no need

    # BLAS's own threads would wait for the next small product on the cores that the network needs
    with threadpool_limits(1, "blas"):
        stream = stream_activations(paths, run, network, images.load, batch_size, images.readers)
        for path, (_, embedding, size, error, contents) in zip(paths, stream, strict=True):
            yield row_of(path, listed[path], embedding, size, error, contents)
