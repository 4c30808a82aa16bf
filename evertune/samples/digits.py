"""Write scikit-learn's handwritten digits as a file of pictures: `python -m evertune.samples.digits digits.parquet`."""

import base64
import sys
from pathlib import Path

import numpy as np


def write_digits(path: Path) -> int:
    """Write 1,797 pictures of 8 x 8 pixels with their digits (Alpaydin & Kaynak 1998) as Parquet; returns their number.

    Raises:
        OSError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.datasets import load_digits

    from evertune.objectives.shared.pixels import encode_png

    digits = load_digits()
    grey_images = np.repeat((255 - digits.images * 255 / 16).round()[..., None], 3, axis=-1)
    files = [{"bytes": base64.b64decode(encode_png(image)), "path": None} for image in grey_images]
    file_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as `datasets` writes pictures
    labels = [str(digit) for digit in digits.target]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": pa.array(files, file_type), "label": labels}), path)
    return len(labels)


if __name__ == "__main__":
    write_digits(Path(sys.argv[1]))
