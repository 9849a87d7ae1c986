"""DICOM folders to parquet: grey values, what ends in quarantine, texts, groups, and no identifier in any output."""

import csv
import io
import json
import shutil
import struct
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from test_prepare import COLUMNS, prepare

from radtune.data import dicom, dicom_pixels
from radtune.data.answers import TAGS
from radtune.data.dicom import SCHEMA, import_dicom
from radtune.data.dicom_pixels import PRESETS, read_dicom, read_frames
from radtune.data.phantom import SCHEMA as DATASET_SCHEMA
from radtune.files import UserError, read_jsonl
from radtune.images import read
from radtune.reasons import Reason, Unusable

RAMP = np.arange(-32, 32, dtype=np.int16).repeat(64).reshape(64, 64) * 4  # one value a row, -128..124


def make(pixels: np.ndarray = RAMP, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """A CT slice; `elements` are header elements by keyword, None leaves one out."""
    uid = generate_uid()
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID, header.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    bits = pixels.dtype.itemsize * 8
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": uid,
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "WindowCenter": 0,
        "WindowWidth": 257,  # LINEAR: -128.5 + .. so that value v shows as v + 128
    } | elements
    for keyword, value in values.items():
        if value is not None:
            setattr(header, keyword, value)
    header.PixelData = pixels.tobytes()
    return header


def save(path: Path, header: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def grey(header: Dataset, window: str = "header") -> np.ndarray:
    frames = list(read_frames(reread(header), window))
    assert len(frames) == 1
    return frames[0][0]


def note(header: Dataset, window: str = "header") -> str:
    return next(note for _, note in read_frames(reread(header), window))


def reread(header: Dataset) -> Dataset:
    """As it comes from a file: values of the ambiguous kinds get their type only then."""
    with tempfile.TemporaryDirectory() as folder:
        found = read_dicom(save(Path(folder) / "slice", header))
    assert found is not None
    return found


def reason(header: Dataset) -> Reason:
    with pytest.raises(Unusable) as caught:
        list(read_frames(reread(header), "header"))
    return caught.value.reason


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def picture(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


# grey values


def test_a_window_is_the_standards_formula() -> None:
    """PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, clipped; rescaled values, not stored ones."""
    shown = grey(make(WindowCenter=10, WindowWidth=101, RescaleSlope=2, RescaleIntercept=-20))
    expected = np.clip(((RAMP[:, 0] * 2.0 - 20 - 9.5) / 100 + 0.5) * 255, 0, 255)
    assert np.abs(shown[:, 0] - expected).max() <= 0.5
    assert {0, 255} < set(shown[:, 0].tolist())


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("LINEAR_EXACT", lambda x, c, w: np.clip(((x - c) / w + 0.5) * 255, 0, 255)),
        ("SIGMOID", lambda x, c, w: 255 / (1 + np.exp(-4 * (x - c) / w))),
    ],
)
def test_the_other_voi_functions(function: str, formula: Any) -> None:
    shown = grey(make(WindowCenter=12, WindowWidth=90, VOILUTFunction=function))
    assert np.abs(shown[:, 0] - formula(RAMP[:, 0].astype(float), 12, 90)).max() <= 0.5


def test_the_first_of_several_windows() -> None:
    several = make(WindowCenter=[10, 400], WindowWidth=[101, 2000])
    assert np.array_equal(grey(several), grey(make(WindowCenter=10, WindowWidth=101)))


def test_a_preset_is_in_hu_and_overrules_the_header() -> None:
    shown = grey(make(), "brain")
    expected = np.clip(((RAMP[:, 0] - 39.5) / 79 + 0.5) * 255, 0, 255)
    assert np.abs(shown[:, 0] - expected).max() <= 0.5
    assert note(make(), "brain") == ""


def test_a_preset_does_not_touch_what_is_not_in_hu() -> None:
    other = make(Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    assert np.array_equal(grey(other, "brain"), grey(other))
    assert note(other, "brain") == dicom_pixels.NOT_HU


@pytest.mark.parametrize("window", [(None, None), (0, 0), (40, -1)])
def test_without_a_sane_window_ct_is_shown_under_the_brain_window(window: tuple[Any, Any]) -> None:
    header = make(WindowCenter=window[0], WindowWidth=window[1])
    assert note(header) == dicom_pixels.ASSUMED_BRAIN
    assert np.array_equal(grey(header), grey(make(), "brain"))


def test_without_a_window_other_images_are_shown_over_their_range() -> None:
    header = make(Modality="MR", WindowCenter=None, WindowWidth=None)
    assert note(header) == dicom_pixels.ASSUMED_RANGE
    assert (grey(header).min(), grey(header).max()) == (0, 255)
    assert np.all(np.diff(grey(header)[:, 0].astype(int)) >= 0)
    assert np.ptp(grey(make(np.full((64, 64), 7, np.int16), Modality="MR", WindowCenter=None))) == 0


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_lut_is_applied_whatever_its_depth(bits: int) -> None:
    """4096 entries from value 0 on, falling: also of 8 bits, where an index of 8 bits would wrap."""
    stored = (np.arange(64, dtype=np.uint16) * 65)[:, None].repeat(64, axis=1)
    top = 2**bits - 1
    item = Dataset()
    item.LUTDescriptor = [4096, 0, bits]
    item.LUTData = (top - np.arange(4096) * top // 4095).astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    shown = grey(make(stored, VOILUTSequence=Sequence([item]), RescaleSlope=None, RescaleIntercept=None))
    assert np.abs(shown[:, 0] - (1 - stored[:, 0] / 4095) * 255).max() <= 1


def test_monochrome1_is_inverted() -> None:
    assert np.array_equal(grey(make(PhotometricInterpretation="MONOCHROME1")), 255 - grey(make()))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [100, 100 - 65536, 100 + 65536])
def test_padding_is_black(photometric: str, value: int) -> None:
    header = make(PhotometricInterpretation=photometric, WindowCenter=0, WindowWidth=2000)
    header.add_new("PixelPaddingValue", "SL" if abs(value) > 32767 else "SS", value)  # a writer's wrong sign
    shown = grey(header)
    assert np.all(shown[RAMP == 100] == 0)
    assert np.all(shown[RAMP != 100] > 0)


def test_a_range_of_padding_is_black() -> None:
    shown = grey(make(PixelPaddingValue=-100, PixelPaddingRangeLimit=-120, WindowCenter=0, WindowWidth=2000))
    assert np.array_equal(shown == 0, (RAMP <= -100) & (RAMP >= -120))


def test_stored_bits_alone_count() -> None:
    """12 bits in 16: what a writer left in the upper four (an old overlay) is not part of the value."""
    stored = (RAMP + 128).astype(np.uint16)
    clean = make(stored, BitsStored=12, HighBit=11, RescaleIntercept=-128)
    dirty = make(stored | 0x3000, BitsStored=12, HighBit=11, RescaleIntercept=-128)
    assert np.array_equal(grey(clean), grey(make()))
    assert np.array_equal(grey(dirty), grey(clean))


def test_colour_becomes_luma() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = (200, 100, 50)
    shown = grey(make(pixels, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0))
    assert shown.shape == (32, 32)
    assert abs(int(shown[0, 0]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) <= 1
    palette = make((np.arange(1024) % 256).reshape(32, 32).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, top in (("Red", 200), ("Green", 100), ("Blue", 50)):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = (np.arange(256) * top // 255 * 257).astype("<u2").tobytes()
        setattr(palette, f"{colour}PaletteColorLookupTableData", table)
    assert abs(int(grey(palette)[7, 31]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) <= 1
    assert grey(palette)[0, 0] == 0


def test_a_frame_goes_by_its_own_window_and_rescale() -> None:
    header = make(np.stack([RAMP, RAMP]), NumberOfFrames=2, Rows=64, Columns=64, WindowCenter=None, WindowWidth=None)

    def group(name: str, **values: float) -> Dataset:
        item, outer = Dataset(), Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(outer, name, Sequence([item]))
        return outer

    header.SharedFunctionalGroupsSequence = [
        group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-10)
    ]
    header.PerFrameFunctionalGroupsSequence = [
        group("FrameVOILUTSequence", WindowCenter=0, WindowWidth=101),
        group("FrameVOILUTSequence", WindowCenter=50, WindowWidth=101),
    ]
    frames = [frame for frame, _ in read_frames(reread(header), "header")]
    for frame, level in zip(frames, (0, 50), strict=True):
        expected = np.clip(((RAMP[:, 0] * 2.0 - 10 - level + 0.5) / 100 + 0.5) * 255, 0, 255)
        assert np.abs(frame[:, 0] - expected).max() <= 0.5


@pytest.mark.parametrize(
    ("keyword", "value", "shape"),
    [
        ("PixelSpacing", [1.0, 0.5], (128, 64)),
        ("PixelSpacing", [0.5, 1.0], (64, 128)),
        ("PixelAspectRatio", [2, 1], (128, 64)),
        ("PixelSpacing", [1.0, 1.009], (64, 64)),
        ("PixelSpacing", [0, 0], (64, 64)),
        ("PixelSpacing", [0.5], (64, 64)),
    ],
)
def test_pixels_become_square(keyword: str, value: list[float], shape: tuple[int, int]) -> None:
    shown = grey(make(**{keyword: value}))
    assert shown.shape == shape
    whole = cv2.resize(grey(make()), shape[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(shown.astype(int) - whole).max() <= 4


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless]
)
def test_a_lossless_syntax_changes_nothing(syntax: str) -> None:
    header = make(PixelPaddingValue=-128)
    if syntax in (JPEG2000Lossless, RLELossless):
        header.compress(syntax)
    header.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(grey(header), grey(make(PixelPaddingValue=-128)))


# what gives no image


def test_nonsense_ends_in_quarantine() -> None:
    assert reason(make(Rows=65)) == Reason.PIXELS_UNREADABLE
    assert reason(make(Rows=0)) == Reason.PIXELS_UNREADABLE
    assert reason(make(BitsStored=40)) == Reason.PIXELS_UNREADABLE
    assert reason(make(BitsAllocated=13)) == Reason.PIXELS_UNREADABLE
    assert reason(make(SamplesPerPixel=5)) == Reason.PIXELS_UNREADABLE
    assert reason(make(NumberOfFrames=3)) == Reason.PIXELS_UNREADABLE
    assert reason(make(PhotometricInterpretation="PUZZLE")) == Reason.PIXELS_UNREADABLE
    assert reason(make(Rows=65535, Columns=65535)) == Reason.IMAGE_TOO_LARGE
    assert reason(make(PixelSpacing=[30000, 0.5])) == Reason.IMAGE_TOO_LARGE
    assert reason(make(BurnedInAnnotation="YES")) == Reason.BURNED_IN_TEXT
    header = make()
    del header.PixelData
    assert reason(header) == Reason.PIXELS_MISSING
    header = make()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    header.PixelData = encapsulate([b"\0" * 10])
    header["PixelData"].VR = "OB"
    assert reason(header) == Reason.SYNTAX_UNSUPPORTED
    assert dicom_pixels.MAX_PIXELS == read.MAX_PIXELS


def jpeg(size: int, stream: bytes | None = None) -> Dataset:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(size * size, dtype=np.uint8).reshape(size, size)).save(buffer, "JPEG")
    header = make(np.zeros((size, size), np.uint8), JPEGBaseline8Bit)
    header.PixelData = encapsulate([stream or buffer.getvalue()])
    header["PixelData"].VR = "OB"
    return header


def stream_of(header: Dataset) -> bytes:
    return next(generate_frames(header.PixelData, number_of_frames=1))


def test_a_stream_that_unfolds_to_more_than_the_header_says_is_not_decoded() -> None:
    stream = stream_of(jpeg(64))
    at = stream.index(b"\xff\xc0")
    assert reason(jpeg(64, stream[: at + 5] + struct.pack(">HH", 65000, 65000) + stream[at + 9 :])) == (
        Reason.IMAGE_TOO_LARGE
    )
    assert reason(jpeg(64, stream_of(jpeg(32)))) == Reason.PIXELS_UNREADABLE
    header = make()
    header.compress(JPEG2000Lossless)
    stream = stream_of(header)
    at = stream.index(b"\xff\x51")  # SIZ: length, capabilities, then width and height
    header.PixelData = encapsulate([stream[: at + 6] + struct.pack(">II", 60000, 60000) + stream[at + 14 :]])
    assert reason(header) == Reason.IMAGE_TOO_LARGE


@pytest.mark.parametrize("stated", [1, 3])
def test_frames_must_be_as_many_as_stated(stated: int) -> None:
    header = make(np.stack([RAMP, RAMP]), Rows=64, Columns=64, NumberOfFrames=2)
    header.compress(RLELossless)
    assert len(list(read_frames(reread(header), "header"))) == 2
    header.NumberOfFrames = stated
    assert reason(header) == Reason.PIXELS_UNREADABLE


def test_a_cut_off_stream_is_not_shown_half() -> None:
    assert grey(jpeg(64)).shape == (64, 64)
    stream = stream_of(jpeg(64))
    assert reason(jpeg(64, stream[: len(stream) // 4 * 2])) == Reason.PIXELS_UNREADABLE
    header = make()
    header.compress(JPEG2000Lossless)
    stream = stream_of(header)
    header.PixelData = encapsulate([stream[: len(stream) // 4 * 2]])
    assert reason(header) == Reason.PIXELS_UNREADABLE


def test_a_deflate_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb", make(np.zeros((2000, 2000), np.int16), DeflatedExplicitVRLittleEndian))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(dicom_pixels, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(zlib, "decompress", lambda *_: pytest.fail("inflated at once"))
    with pytest.raises(Unusable) as caught:
        read_dicom(path, pixels=False)
    assert caught.value.reason == Reason.IMAGE_TOO_LARGE


# the folder


def test_files_are_counted_and_the_bytes_are_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    for n in range(7):
        save(folder / f"deep/{n}" / "IM", make(RAMP + np.int16(n), InstanceNumber=n))
    shutil.copy(folder / "deep/0/IM", folder / "copy")
    (folder / "bare").write_bytes(without_preamble(tmp_path))
    save(folder / "DICOMDIR", make(SOPClassUID=MediaStorageDirectoryStorage))
    (folder / "notes.txt").write_text("no image")
    (folder / "empty").touch()
    (folder / "two bytes").write_bytes(b"\x08\x00")
    (folder / "junk").write_bytes(b"\x08\x00\x08\x00" + bytes(500))
    (folder / "broken").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff\x01\x02\x03")
    import_dicom(folder, out=tmp_path / "a", shard_rows=3)
    said = capsys.readouterr().out
    assert "15 files: 8 read, 2 quarantined (" in said
    assert "5 skipped" in said
    assert "8 images in 1 groups." in said
    assert "8 images have no text" in said
    import_dicom(folder, out=tmp_path / "b", shard_rows=3)
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == ["quarantine.jsonl", "train-00000.parquet", "train-00001.parquet", "train-00002.parquet"]
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    rows = rows_of(tmp_path / "a")
    assert [len(pq.read_table(tmp_path / "a" / name)) for name in written[1:]] == [3, 3, 2]
    assert {(row["question"], row["text"]) for row in rows} == {("<CAPTION>", None)}
    assert all(len(row["id"]) == 32 and row["image"]["path"] == f"{row['id']}.png" for row in rows)
    assert len({row["id"] for row in rows}) == 8
    lost = Counter(entry["reason"] for entry in read_jsonl(tmp_path / "a" / "quarantine.jsonl"))
    assert lost[Reason.INSTANCE_REPEATED] == 1
    assert pq.read_schema(tmp_path / "a" / "train-00000.parquet").equals(SCHEMA, check_metadata=True)


def without_preamble(tmp_path: Path) -> bytes:
    data = save(tmp_path / "whole", make(syntax=ImplicitVRLittleEndian)).read_bytes()
    return data[data.index(b"\x08\x00\x16\x00") :]


def test_the_schema_is_the_data_sets_and_a_group() -> None:
    assert SCHEMA.names == [*DATASET_SCHEMA.names, "group"]
    features = json.loads(SCHEMA.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert list(features) == SCHEMA.names


def test_salt_changes_ids_and_groups(tmp_path: Path) -> None:
    save(tmp_path / "in/a", make())
    import_dicom(tmp_path / "in", out=tmp_path / "plain")
    import_dicom(tmp_path / "in", out=tmp_path / "salted", salt="a secret")
    (plain,), (salted,) = rows_of(tmp_path / "plain"), rows_of(tmp_path / "salted")
    assert plain["id"] != salted["id"]
    assert plain["group"] != salted["group"]
    assert plain["image"]["bytes"] == salted["image"]["bytes"]


def groups(tmp_path: Path, *files: dict[str, Any]) -> list[str]:
    for n, elements in enumerate(files):
        save(tmp_path / f"in/{n}", make(RAMP + np.int16(n), **elements))
    import_dicom(tmp_path / "in", out=tmp_path / "out")
    return [row["group"] for row in rows_of(tmp_path / "out")]


def test_a_series_and_a_patients_series_stay_together(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        {"SeriesInstanceUID": "1.1", "PatientID": "P1", "PatientBirthDate": "19500101"},
        {"SeriesInstanceUID": "1.1", "PatientID": ""},
        {"SeriesInstanceUID": "1.2", "PatientID": "P1", "PatientBirthDate": "19500101"},
        {"SeriesInstanceUID": None, "PatientID": "P1", "PatientBirthDate": "19500101"},
        {"SeriesInstanceUID": "1.3", "PatientID": "P1", "PatientBirthDate": "19991231"},
        {"SeriesInstanceUID": None, "StudyInstanceUID": "1.9"},
        {"SeriesInstanceUID": None, "StudyInstanceUID": "1.9"},
        {"SeriesInstanceUID": None},
        {"SeriesInstanceUID": None},
    )
    assert [found.index(group) for group in found] == [0, 0, 0, 0, 4, 5, 5, 7, 8]


@pytest.mark.parametrize(
    "word", ["", "0", "000000", "ANONYMOUS", "Anonymized", "anon", "^^", "X-X-X", "Unknown", "NONE"]
)
def test_a_placeholder_for_the_patients_id_joins_nothing(tmp_path: Path, word: str) -> None:
    first, second = groups(
        tmp_path,
        {"SeriesInstanceUID": "1.1", "PatientID": word},
        {"SeriesInstanceUID": "1.2", "PatientID": word},
    )
    assert first != second


def test_images_that_may_show_a_name_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, elements in enumerate(
        [
            {"Modality": "US"},
            {"SOPClassUID": SecondaryCaptureImageStorage},
            {"Modality": "US", "BurnedInAnnotation": "NO"},
            {},
        ]
    ):
        save(tmp_path / f"in/{n}", make(**elements))
    import_dicom(tmp_path / "in", out=tmp_path / "out")
    assert "\n2 images are of kinds that often show a name" in capsys.readouterr().out


SECRETS = {
    "PatientName": "Zebulon^Quirke",
    "PatientID": "MRN-7741093",
    "PatientBirthDate": "19471123",
    "PatientAddress": "14 Larkspur Lane",
    "OtherPatientIDs": "ALT-55201",
    "InstitutionName": "Saint Wilgefortis Hospital",
    "InstitutionAddress": "Nowhere Street 99",
    "AccessionNumber": "ACC88213377",
    "StudyDate": "20190304",
    "SeriesDate": "20190305",
    "StudyTime": "112233.4455",
    "StudyDescription": "Fell off a zeppelin",
    "SeriesDescription": "Scan of Mr Quirke",
    "ImageComments": "Call 555-0199 before noon",
    "PatientComments": "Allergic to kumquats",
    "ReferringPhysicianName": "Oglethorpe^Hortensia",
    "OperatorsName": "Vanterpool^Ignatz",
    "StationName": "CTROOM7X",
    "DeviceSerialNumber": "SN-9988776655",
    "ProtocolName": "Quirke protocol",
    "StudyID": "STUDY4711",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.11111111111111111111",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.22222222222222222222",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.33333333333333333333",
}


def hide(**elements: Any) -> Dataset:
    """A slice whose header holds every secret, in private elements and a nested sequence too."""
    header = make(**(SECRETS | elements))
    block = header.private_block(0x0043, "QUIRKEWORKS 1.0", create=True)
    block.add_new(0x10, "LO", "Zebulon in private")
    item = Dataset()
    item.PatientID, item.CodeMeaning = "NESTED-7741093", "Nested kumquat"
    header.RequestAttributesSequence = [item]
    header.add_new(0x60000022, "LO", "Overlay of Quirke")
    return header


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_no_identifier_reaches_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    files = {
        "Quirke_Zebulon/MRN-7741093_good.dcm": hide(),
        "Quirke_Zebulon/19471123_cut.dcm": hide(Rows=65),
        "Quirke_Zebulon/no pixels.dcm": hide(),
        "Quirke_Zebulon/burned.dcm": hide(BurnedInAnnotation="YES"),
        # values that errors quote
        "Quirke_Zebulon/message.dcm": hide(PhotometricInterpretation="QUIRKE ZEBULON"),
        "Quirke_Zebulon/syntax.dcm": hide(),
        "Quirke_Zebulon/window.dcm": hide(WindowCenter=None),
        "Quirke_Zebulon/uid.dcm": hide(SOPInstanceUID="Zebulon Quirke, MRN-7741093"),
    }
    del files["Quirke_Zebulon/no pixels.dcm"].PixelData
    files["Quirke_Zebulon/window.dcm"].add_new("WindowCenter", "LO", "Zebulon in window")
    files["Quirke_Zebulon/syntax.dcm"].file_meta.TransferSyntaxUID = "1.2.826.0.1.7741093"
    for name, header in files.items():
        header.file_meta.SourceApplicationEntityTitle = "QUIRKEAET"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "syntax" in name:
            header.save_as(path, implicit_vr=False, little_endian=True)
        else:
            save(path, header)
    (folder / "Quirke_Zebulon" / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"Zebulon^Quirke")
    uids = [str(header.SOPInstanceUID) for header in files.values()]
    import_dicom(folder, out=tmp_path / "out")
    said = capsys.readouterr()

    rows = rows_of(tmp_path / "out")
    lost = read_jsonl(tmp_path / "out" / "quarantine.jsonl")
    assert len(rows) + len(lost) == 9
    assert len(rows) == 3
    assert {entry["reason"] for entry in lost} >= {"pixels_unreadable", "pixels_missing", "burned_in_text"}
    outputs = [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
    outputs += [json.dumps({**row, "image": row["image"]["path"]}).encode() for row in rows]
    outputs += [row["image"]["bytes"] for row in rows] + [picture(row).tobytes() for row in rows]
    outputs += [said.out.encode(), *(path.name.encode() for path in (tmp_path / "out").iterdir())]
    words = {part for value in SECRETS.values() for part in (value, *value.split("^"), *value.split(" "))}
    words = {word for word in words if len(word) > 4} | {"Quirke", "Zebulon", "7741093", "kumquat", "QUIRKE", "zebulon"}
    for needle in [*words, *uids, "message.dcm", "2.826.0"]:
        for spelled in (needle, needle.upper(), needle.lower()):
            for output in outputs:
                assert spelled.encode() not in output, needle
                assert spelled.encode("utf-16-le") not in output, needle
    for row in rows:
        assert chunks(row["image"]["bytes"]) == {b"IHDR", b"IDAT", b"IEND"}
    # the terminal gets relative names and nothing of a header
    assert "Quirke_Zebulon/message.dcm: " in said.err
    assert not any(value in said.err for value in SECRETS.values() if value not in "".join(files))


def chunks(png: bytes) -> set[bytes]:
    found, at = set(), 8
    while at < len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        found.add(png[at + 4 : at + 8])
        at += 12 + length
    return found


# texts


def write_csv(path: Path, *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def series(tmp_path: Path) -> tuple[Path, list[Dataset]]:
    headers = [make(RAMP + np.int16(n), SeriesInstanceUID=f"1.{n // 2}") for n in range(4)]
    for n, header in enumerate(headers):
        save(tmp_path / f"in/sub/{n}.dcm", header)
    return tmp_path / "in", headers


def test_texts_give_a_row_each(series: tuple[Path, list[Dataset]], tmp_path: Path, capsys: Any) -> None:
    folder, headers = series
    write_csv(
        folder / "texts.csv",
        ["file", "question", "text"],
        ["sub/0.dcm", "<CAPTION>", "A head, with comma"],
        ["sub\\0.dcm", "CAPTION_DETAILS", "<CAPTION_DETAILS>Its tag is there"],
        ["./sub/2.dcm", "CAPTION", "Second\nline"],
    )
    import_dicom(folder, out=tmp_path / "file")
    rows = rows_of(tmp_path / "file")
    assert [(row["question"], row["text"]) for row in rows] == [
        ("<CAPTION>", "<CAPTION>A head, with comma"),
        ("<CAPTION_DETAILS>", "<CAPTION_DETAILS>Its tag is there"),
        ("<CAPTION>", None),
        ("<CAPTION>", "<CAPTION>Second\nline"),
        ("<CAPTION>", None),
    ]
    assert rows[0]["id"] == rows[1]["id"] != rows[2]["id"]
    said = capsys.readouterr().out
    assert "4 files: 4 read, 0 quarantined, 0 skipped" in said
    assert "2 images have no text" in said
    texts = write_csv(tmp_path / "t.csv", ["text", "question", "series_instance_uid"], ["All", "CAPTION", "1.1"])
    import_dicom(folder, out=tmp_path / "series", texts=texts)
    assert [row["text"] for row in rows_of(tmp_path / "series")] == [None, None, *["<CAPTION>All"] * 2]
    texts = write_csv(
        tmp_path / "t.csv", ["sop_instance_uid", "question", "text"], [headers[3].SOPInstanceUID, "CAPTION", "One"]
    )
    import_dicom(folder, out=tmp_path / "sop", texts=texts)
    assert [row["text"] for row in rows_of(tmp_path / "sop")] == [None, None, None, "<CAPTION>One"]


HEAD = ["file", "question", "text"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([HEAD, ["sub/9.dcm", "CAPTION", "x"]], "row 2, column file: it names no DICOM file"),
        ([HEAD, ["sub/0.dcm", "CAPTON", "x"]], "row 2, column question: The question is none of the known tags"),
        ([HEAD, ["sub/0.dcm", "", "x"]], "row 2, column question: The row has no question tag"),
        ([HEAD, ["sub/0.dcm", "CAPTION", " "]], "row 2, column text: it is empty"),
        ([HEAD, ["", "CAPTION", "x"]], "row 2, column file: it is empty"),
        ([HEAD, ["sub/0.dcm", "CAPTION", "x", "y"]], "row 2: it has more or fewer fields"),
        ([HEAD, ["sub/0.dcm", "CAPTION"]], "row 2: it has more or fewer fields"),
        ([["file", "question", "report"]], "row 1: its columns must be question, text and one of file"),
        ([["question", "text"]], "row 1: its columns must be"),
        ([["file", "series_instance_uid", "question", "text"]], "row 1: its columns must be"),
        ([["file", "file", "question", "text"]], "row 1: its columns must be"),
        ([], "row 1: its columns must be .* they are missing"),
    ],
)
def test_a_mistake_in_the_texts_is_named(
    series: tuple[Path, list[Dataset]], tmp_path: Path, rows: list[list[str]], sentence: str
) -> None:
    texts = write_csv(tmp_path / "t.csv", *rows)
    with pytest.raises(UserError, match=f"t.csv, {sentence}"):
        import_dicom(series[0], out=tmp_path / "out", texts=texts)
    assert not (tmp_path / "out").exists()


def test_texts_in_another_encoding_or_broken(series: tuple[Path, list[Dataset]], tmp_path: Path) -> None:
    texts = tmp_path / "t.csv"
    texts.write_bytes("file,question,text\nsub/0.dcm,CAPTION,脑部".encode("gb18030"))
    with pytest.raises(UserError, match=r"t.csv is not in UTF-8 \(byte \d+\)"):
        import_dicom(series[0], out=tmp_path / "out", texts=texts)
    texts.write_text('file,question,text\nsub/0.dcm,CAPTION,"no end', encoding="utf-8")
    with pytest.raises(UserError, match=r"t.csv, row 2: unexpected end of data"):
        import_dicom(series[0], out=tmp_path / "out", texts=texts)
    with pytest.raises(UserError, match=r"none.csv cannot be read \(No such file or directory\)"):
        import_dicom(series[0], out=tmp_path / "out", texts=tmp_path / "none.csv")
    texts.write_bytes(b"\xef\xbb\xbf" + "file,question,text\nsub/0.dcm,CAPTION,脑部\n".encode())
    import_dicom(series[0], out=tmp_path / "out", texts=texts)
    assert rows_of(tmp_path / "out")[0]["text"] == "<CAPTION>脑部"


def test_a_text_whose_file_is_quarantined_is_said_to_be_lost(
    series: tuple[Path, list[Dataset]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(series[0] / "bad.dcm", make(Rows=65))
    texts = write_csv(tmp_path / "t.csv", HEAD, ["bad.dcm", "CAPTION", "x"], ["sub/0.dcm", "CAPTION", "y"])
    import_dicom(series[0], out=tmp_path / "out", texts=texts)
    assert "1 texts are lost with their quarantined files." in capsys.readouterr().out


# mistakes of the person


def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    save(tmp_path / "in/a", make())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "texts only").mkdir()
    (tmp_path / "texts only" / "x.txt").touch()
    save(tmp_path / "bad/a", make(Rows=65))
    out = tmp_path / "out"
    for folder, options, sentence in [
        ("none", {}, "none is no folder"),
        ("in", {"window": "brian"}, "--window brian is unknown; give header or one of brain, subdural"),
        ("in", {"out": tmp_path / "full"}, "full exists and is not empty"),
        ("in", {"shard_rows": 0}, "--shard-rows 0"),
        ("texts only", {}, r"texts only holds no DICOM file \(1 other files\)"),
        ("bad", {}, r"bad gives no image: pixels_unreadable 1"),
    ]:
        with pytest.raises(UserError, match=sentence):
            import_dicom(tmp_path / folder, **{"out": out} | options)
        assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 4
    out.mkdir()
    import_dicom(tmp_path / "in", out=out)
    assert len(rows_of(out)) == 1


# real files

LOSSLESS = [
    f"cornerstone/CTImage.dcm_{name}.dcm"
    for name in (
        "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
        "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
        "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
        "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
        "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
        "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
        "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1",
        "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
        "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
    )
]
LOSSY = {  # mean difference to the lossless image in grey levels, at most
    "cornerstone/CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm": 1.0,
    "cornerstone/CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm": 1.0,
    "cornerstone/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": 1.5,
    "cornerstone/CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": 8.0,  # 8 bits for 4096 values
}
ENDS: dict[str, int | Reason] = {  # images, or the reason
    **dict.fromkeys([*LOSSLESS, *LOSSY], 1),
    "cornerstone/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": Reason.SYNTAX_UNSUPPORTED,
    "cornerstone/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": Reason.SYNTAX_UNSUPPORTED,
    "cornerstone/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": 2,
    "cornerstone/CT2_J2KR": 1,
    "cornerstone/no-pixel-data.dcm": Reason.PIXELS_MISSING,
    "pydicom/CT_small.dcm": 1,
    "pydicom/MR_truncated.dcm": Reason.PIXELS_UNREADABLE,
    "pydicom/image_dfl.dcm": 1,
    "pydicom/no_meta.dcm": 1,
    "pydicom-data/RG3_J2KI.dcm": 1,
    "pydicom-data/bad_sequence.dcm": 1,
    "pydicom-data/eCT_Supplemental.dcm": 2,
    "pydicom-data/emri_small_RLE.dcm": 10,
    "pydicom-data/explicit_VR-UN.dcm": 1,
}


def test_where_each_of_27_real_files_ends(real_data: Path) -> None:
    source = real_data / "dicom_transfer_syntaxes"
    ends: dict[str, int | Reason] = {}
    pictures = {}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        header = read_dicom(path)
        if header is None:
            assert path.name in ("LICENSE", "UPSTREAM_README.txt")
            continue
        name = path.relative_to(source).as_posix()
        try:
            pictures[name] = [frame for frame, _ in read_frames(header, "header")]
            ends[name] = len(pictures[name])
        except Unusable as error:
            ends[name] = error.reason
    assert ends == ENDS
    assert len(ends) == 27
    first = pictures[LOSSLESS[0]][0]
    assert first.std() > 30
    for name in LOSSLESS:
        assert np.array_equal(pictures[name][0], first), name
    for name, bound in LOSSY.items():
        difference = np.abs(pictures[name][0].astype(int) - first)
        assert 0 < difference.mean() < bound, (name, difference.mean())
    assert np.array_equal(pictures["pydicom/no_meta.dcm"][0], pictures["pydicom/CT_small.dcm"][0])


def test_the_27_in_one_folder(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nine files hold an image that another holds too; every file is accounted for."""
    import_dicom(real_data / "dicom_transfer_syntaxes", out=tmp_path / "out")
    assert "31 files: 14 read, 13 quarantined (instance_repeated 9, " in capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    images = {name: end for name, end in ENDS.items() if isinstance(end, int)}
    assert len(rows) == sum(images.values()) - 9


def test_head_series_shows_what_its_derived_pictures_show(real_data: Path, tmp_path: Path) -> None:
    """Those go by (x - c) / w + 0.5, the standard's LINEAR by c - 0.5 and w - 1: 3 levels apart at the bright end."""
    source = real_data / "head_ct_series"
    import_dicom(source / "dicom", out=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 28
    assert len({row["group"] for row in rows}) == 1
    for row, path in zip(rows, sorted((source / "dicom").iterdir()), strict=True):
        derived = np.asarray(Image.open(source / "png_window_derived" / f"{path.stem}.png").convert("L")).astype(int)
        difference = np.abs(picture(row) - derived)
        assert difference.max() <= 3
        assert difference.mean() < 0.6
        header = read_dicom(path)
        assert header is not None
        header.VOILUTFunction = "LINEAR_EXACT"
        assert np.abs(next(read_frames(header, "header"))[0] - derived).max() <= 1


def test_the_workflow_takes_the_imported_series(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(real_data / "head_ct_series" / "dicom", folder)
    place = "spot<loc_100><loc_100><loc_300><loc_300>"
    made_up = [[f"{n:02d}.dcm", "CAPTION", f"Made-up sentence {n}."] for n in range(1, 28)]
    made_up += [[f"{n:02d}.dcm", "DETECT_REGION_LOC", place] for n in range(1, 28)]
    write_csv(folder / "texts.csv", HEAD, *made_up)
    import_dicom(folder, out=tmp_path / "set", window="brain", shard_rows=30)
    assert set(COLUMNS) <= set(SCHEMA.names)
    out = prepare(tmp_path / "set", tmp_path / "work")
    samples = pq.read_table(out / "samples.parquet").to_pylist()
    assert Counter((row["status"], row["reason"]) for row in samples) == {
        ("kept", None): 54,
        ("quarantined", "text_missing"): 1,
    }
    assert len(list((out / "images").rglob("*.jpg"))) == 28
    assert {row["tag"] for row in samples} < set(TAGS)
    assert PRESETS["brain"] == (40, 80)
    assert dicom.ROW_GROUP == 100


def test_an_imported_series_stays_in_one_split(tmp_path: Path) -> None:
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    texts = []
    for series in range(10):
        for n in (1, 2):
            pixels = cv2.resize(rng.normal(40, 40, (9, 9)), (64, 64)).astype(np.int16)  # no two are alike
            save(folder / f"{series}-{n}.dcm", make(pixels, SeriesInstanceUID=f"1.2.{series}", InstanceNumber=n))
            texts.append([f"{series}-{n}.dcm", "CAPTION", f"Made-up sentence {series} {n}."])
    write_csv(folder / "texts.csv", HEAD, *texts)
    import_dicom(folder, out=tmp_path / "set", window="brain")
    apart = prepare(tmp_path / "set", tmp_path / "apart")
    out = prepare(tmp_path / "set", tmp_path / "work", columns=COLUMNS | {"group": "group"})
    rows = pq.read_table(out / "samples.parquet").to_pylist()
    series_of = {row["parts"]: json.loads(row["parts"])["text"].split()[2] for row in rows}
    groups, splits = ({(series_of[row["parts"]], row[name]) for row in rows} for name in ("group", "split"))
    assert len(groups) == len(splits) == len(set(series_of.values())) == 10
    assert {split for _, split in splits} == {"train", "validation", "test"}
    assert len(set(pq.read_table(apart / "samples.parquet")["group"].to_pylist())) == 20  # without that column
