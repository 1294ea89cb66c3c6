"""Data as rows: tables, folders, data sets of the `datasets` library."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from app.dataset.rows import Row, Source, file_columns
from app.dataset.sources import First, open_source
from app.errors import InvalidInput
from app.tasks.samples import PNG


def values(source: Source) -> list[dict[str, object]]:
    return [row.values for row in source.rows()]


def test_csv_is_read_as_it_stands(tmp_path: Path) -> None:
    """A mark of the byte order, quoted line ends and commas, leading zeros, empty lines."""
    file = tmp_path / "a.csv"
    file.write_bytes('\ufeffid,text\r\n007,"two\nlines, and ""quotes"""\r\n\r\n8,ä\r\n'.encode())
    source = open_source(str(file))
    assert source.columns == ("id", "text")
    assert source.num_rows == 2
    assert values(source) == [{"id": "007", "text": 'two\nlines, and "quotes"'}, {"id": "8", "text": "ä"}]
    assert list(source.rows()) == list(source.rows()), "it can be read again"


def test_rows_of_csv_that_cannot_be_read_have_a_problem(tmp_path: Path) -> None:
    """The others are read."""
    file = tmp_path / "a.csv"
    file.write_bytes(b"a,b\n1,2\n1\n1,2,3\n\xff,2\n3,4\n")
    rows = list(open_source(str(file)).rows())
    assert [row.problem for row in rows] == [
        None,
        "It has 1 cells, the first line 2.",
        "It has 3 cells, the first line 2.",
        "It is not UTF-8.",
        None,
    ]
    assert rows[4] == Row(4, {"a": "3", "b": "4"})


def test_cells_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    """Its own limit is 131,072 characters."""
    file = tmp_path / "a.csv"
    file.write_text("text\n" + "a" * 200_000 + "\n")
    assert len(str(values(open_source(str(file)))[0]["text"])) == 200_000


def test_json_lines_may_have_different_names(tmp_path: Path) -> None:
    """Columns are those of all lines; what is no JSON object has a problem."""
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n\n{"b": [1, 2]}\nnot json\n[1]\n'))
    source = open_source(str(file))
    assert source.columns == ("a", "b")
    rows = list(source.rows())
    assert source.num_rows == len(rows) == 4
    assert rows[1].values == {"b": [1, 2]}
    assert (rows[2].problem or "").startswith("It is not JSON")
    assert rows[3].problem == "It is not a JSON object."


def test_first_rows_and_shards(tmp_path: Path) -> None:
    """A folder of tables is one table, in the order of the names."""
    (tmp_path / "b.csv").write_text("a\n3\n")
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    source = open_source(str(tmp_path))
    assert [row.values["a"] for row in source.rows()] == ["1", "2", "3"]
    assert [row.number for row in source.rows()] == [0, 1, 2]
    first = First(source, 2)
    assert (first.num_rows, len(list(first.rows()))) == (2, 2)


def test_folder_of_images_has_labels(tmp_path: Path) -> None:
    """The first subfolder's name; hidden files and other ones are left out."""
    for name in ("cat/2.png", "cat/1.PNG", "dog/1.jpg", "top.webp", "dog/notes.txt", ".hidden/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    source = open_source(str(tmp_path))
    assert values(source) == [
        {"file": "cat/1.PNG", "label": "cat"},
        {"file": "cat/2.png", "label": "cat"},
        {"file": "dog/1.jpg", "label": "dog"},
        {"file": "top.webp", "label": None},
    ]
    before = source.identity
    (tmp_path / "cat/2.png").write_bytes(PNG + b"\0")
    assert open_source(str(tmp_path)).identity != before


def test_metadata_of_a_folder_is_its_table(tmp_path: Path) -> None:
    """As the `datasets` library reads it."""
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,hello\n")
    assert values(open_source(str(tmp_path))) == [{"file_name": "a.wav", "text": "hello"}]
    (tmp_path / "metadata.csv").write_text("text\nhello\n")
    with pytest.raises(InvalidInput, match='no column "file_name"'):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "[]", "call it .jsonl"),
        ("a.csv", "", "it is empty"),
        ("a.csv", "a,a\n", 'two columns are called "a"'),
        ("a.parquet", "no parquet", "Parquet"),
    ],
)
def test_what_is_no_table_is_a_sentence(tmp_path: Path, name: str, content: str, words: str) -> None:
    """Said before anything is started."""
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=words):
        _ = open_source(str(tmp_path / name)).columns
    with pytest.raises(InvalidInput, match="no such file"):
        open_source("gone.csv")


def test_saved_datasets_and_parquet_keep_types_and_files(tmp_path: Path) -> None:
    """In a process of its own, which ends without torch: the `datasets` library is not to bring it into the command."""
    script = """
import sys
import datasets, pyarrow.parquet
from app.dataset.rows import file_columns
from app.dataset.sources import open_source
from app.tasks.samples import PNG

folder = sys.argv[1]
features = datasets.Features(
    image=datasets.Image(), stars=datasets.ClassLabel(names=["bad", "good"]), text=datasets.Value("string"))
data = datasets.Dataset.from_dict(
    {"image": [{"bytes": PNG, "path": None}] * 3, "stars": [0, 1, 1], "text": list("abc")}, features=features)
datasets.DatasetDict(test=data).save_to_disk(f"{folder}/saved")
data.to_parquet(f"{folder}/a.parquet")
for source in (open_source(f"{folder}/saved"), open_source(f"{folder}/a.parquet")):
    assert source.columns == ("image", "stars", "text")
    rows = list(source.rows())
    assert len(rows) == source.num_rows == 3
    assert rows[2].number == 2 and rows[2].values["text"] == "c" and rows[2].values["stars"] == 1
    assert rows[0].values["image"]["bytes"] == PNG
    assert file_columns(source) == {"image"}
    assert str(source.arrow_schema().field("stars").type) == "int64"
assert open_source(f"{folder}/saved").label_names("stars") == ("bad", "good")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=100)


def test_tables_without_types_have_no_file_columns(tmp_path: Path) -> None:
    """Files are in Parquet and data sets only."""
    (tmp_path / "a.csv").write_text("bytes,path\n1,2\n")
    assert file_columns(open_source(str(tmp_path / "a.csv"))) == set()
