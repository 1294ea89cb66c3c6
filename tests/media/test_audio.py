"""Sounds: every format, every way to break one, every limit."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from app.errors import BackendFailed, InputTooLarge, InvalidInput, PipeserveError, UnsupportedMedia
from app.media.audio import decode_audio, encode_audio
from app.media.limits import MediaLimits
from app.media.sniff import sniff
from tests.media.files import av_sound, sound_file, tone, video_file, wav_header
from tests.media.memory import at_most

LIMITS = MediaLimits()
PARAM = "inputs[2]"
RATE = 16_000


def decode(data: bytes, rate: int = RATE, limits: MediaLimits = LIMITS) -> NDArray[np.float32]:
    samples = decode_audio(data, rate, limits, param=PARAM)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    return samples


def refused(error_class: type[PipeserveError], data: bytes, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(error_class) as caught:
        decode_audio(data, RATE, limits, param=PARAM)
    assert caught.value.param == PARAM
    assert caught.value.message.startswith(f"{PARAM}: ")
    return caught.value.message


FILES: dict[str, Callable[[], bytes]] = {
    "WAV": lambda: sound_file(tone(), RATE),
    "WAV of 24 bits": lambda: sound_file(tone(), RATE, subtype="PCM_24"),
    "WAV of floats": lambda: sound_file(tone(), RATE, subtype="FLOAT"),
    "WAV of μ-law": lambda: sound_file(tone(), RATE, subtype="ULAW"),
    "FLAC": lambda: sound_file(tone(), RATE, "FLAC"),
    "Ogg Vorbis": lambda: sound_file(tone(), RATE, "OGG", "VORBIS"),
    "Ogg Opus": lambda: sound_file(tone(), RATE, "OGG", "OPUS"),
    "MP3": lambda: sound_file(tone(), RATE, "MP3"),
    "AAC": lambda: av_sound("adts", "aac", tone(), RATE),
    "M4A": lambda: av_sound("ipod", "aac", tone(), RATE),
    "MP4": lambda: av_sound("mp4", "aac", tone(), RATE),
    "WebM": lambda: av_sound("webm", "libopus", tone(rate=48_000), 48_000),
    "Matroska": lambda: av_sound("matroska", "aac", tone(), RATE),
}


def spectrum_peak(samples: NDArray[np.float32], rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read(name: str) -> None:
    """A tone comes back as it was: its length (codecs pad by less than 0.1 s), its pitch, its loudness."""
    samples = decode(FILES[name]())
    assert abs(len(samples) - 0.5 * RATE) < 0.1 * RATE
    assert abs(spectrum_peak(samples, RATE) - 440) < 5
    assert 0.4 < np.abs(samples).max() < 0.6


def test_sound_without_loss_is_exact() -> None:
    """WAV of floats at the model's rate: the very samples."""
    assert np.array_equal(decode(sound_file(tone(), RATE, subtype="FLOAT")), tone())


@pytest.mark.parametrize("channels", [2, 6])
@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_channels_are_averaged(channels: int, container: str) -> None:
    """Only the first is loud, so that the mean is a fraction of it."""
    samples = np.zeros((8000, channels), np.float32)
    samples[:, 0] = tone()
    mono = decode(sound_file(samples, RATE, container))
    assert np.abs(mono - tone() / channels).max() < 0.02


def test_channels_are_averaged_by_av_too() -> None:
    """The fallback mixes as the first choice does, not as FFmpeg would (louder)."""
    import io
    from typing import Any

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream("pcm_s16le", rate=RATE)
        stream.layout = "stereo"
        left = (tone() * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.stack([left, 0 * left], 1).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode()):
            output.mux(packet)
    assert np.abs(decode(file.getvalue()) - tone() / 2).max() < 1e-3


def test_many_channels_are_averaged_by_av() -> None:
    """Sixteen planes: PyAV's own view of them would end the process."""
    import io
    from typing import Any

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream("wavpack", rate=RATE)
        stream.layout = "hexadecagonal"
        samples = np.repeat(tone()[:, None], 16, axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="hexadecagonal")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode()):
            output.mux(packet)
    assert np.abs(decode(file.getvalue()) - tone()).max() < 0.01  # this encoder rounds floats


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_rate_becomes_the_models(rate: int) -> None:
    """Block by block as in one piece: soxr's own answer, to the sample."""
    samples = tone(30.0, rate)
    data = sound_file(samples, rate, subtype="FLOAT")
    assert np.allclose(decode(data), soxr.resample(samples, rate, RATE, quality="HQ"), atol=1e-6)


@pytest.mark.parametrize("rate", [RATE, 8000, 48_000])
def test_one_sample_is_a_sound(rate: int) -> None:
    """Even where not one sample of the new rate falls into it."""
    assert len(decode(sound_file(np.array([0.5], np.float32), rate))) >= 1


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_no_sample_is_no_sound(container: str) -> None:
    """A header alone is 422."""
    refused(InvalidInput, sound_file(np.zeros(0, np.float32), RATE, container))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_not_finite_are_refused(value: float, subtype: str) -> None:
    """One of them in a WAV of floats spoils the features of the whole sound."""
    samples = tone().astype(np.float64)
    samples[4000] = value
    assert "not finite" in refused(InvalidInput, sound_file(samples, RATE, subtype=subtype))


def test_double_that_no_float_holds_is_refused() -> None:
    """It becomes infinite on the way."""
    assert "not finite" in refused(InvalidInput, sound_file(np.array([1e300, 0.0]), RATE, subtype="DOUBLE"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"a text called a.wav", "not a sound"),
        (b"RIFF\x00\x00\x00\x00WAVE", "broken"),
        (b"fLaC", "broken"),
        (b"OggS", "broken"),
        (b"ID3\x04", "broken"),
    ],
)
def test_what_is_no_sound_is_refused(data: bytes, says: str) -> None:
    """422, with the field's name."""
    assert says in refused(InvalidInput, data)


def test_pictures_are_no_sounds() -> None:
    """415, with what is read instead."""
    message = refused(UnsupportedMedia, b"\x89PNG\r\n\x1a\n")
    assert "image/png" in message
    assert "WAV, FLAC, Ogg" in message


def test_silent_film_is_refused() -> None:
    """A video without a sound."""
    assert "no sound" in refused(InvalidInput, video_file())


@pytest.mark.parametrize("name", FILES)
def test_broken_bytes_end_in_a_sentence(name: str) -> None:
    """Cut or overwritten anywhere: a sound or one of our errors."""
    chance = random.Random(7)
    data = FILES[name]()
    limits = MediaLimits(max_seconds=20)
    for attempt in range(40):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(min(len(broken), 600))] = chance.randrange(256)
        del broken[chance.randrange(len(broken)) if attempt % 2 else len(broken) :]
        try:
            decode(bytes(broken), limits=limits)
        except PipeserveError as error:
            assert error.param == PARAM


@pytest.mark.parametrize("name", FILES)
def test_limit_of_seconds_holds(name: str) -> None:
    """413 with limit and actual length."""
    message = refused(InputTooLarge, FILES[name](), MediaLimits(max_seconds=0.2))
    assert "the limit is 0.2" in message


def test_limit_of_seconds_is_exact() -> None:
    """A sound of just the limit is read, one sample more is not."""
    limits = MediaLimits(max_seconds=0.5)
    assert len(decode(sound_file(np.zeros(8000), RATE), limits=limits)) == 8000
    refused(InputTooLarge, sound_file(np.zeros(8001), RATE), limits)


def test_limit_of_bytes_is_exact() -> None:
    """Before anything looks into the file."""
    data = sound_file(tone(), RATE)
    decode(data, limits=MediaLimits(max_bytes=len(data)))
    refused(InputTooLarge, data, MediaLimits(max_bytes=len(data) - 1))


def test_header_that_claims_hours_allocates_nothing() -> None:
    """A WAV of one second that says it has two thousand million samples."""
    data = wav_header(2**32 - 2) + bytes(2 * RATE)
    with at_most(50_000_000):
        assert len(decode(data)) == RATE


def test_header_that_claims_too_little_cuts_the_sound() -> None:
    """What lies beyond is not the sound's."""
    assert len(decode(wav_header(200) + bytes(2 * RATE))) == 100


def flac_that_claims(num_samples: int, samples: NDArray[np.float32]) -> bytes:
    data = bytearray(sound_file(samples, RATE, "FLAC"))
    (packed,) = struct.unpack_from(">Q", data, 18)
    struct.pack_into(">Q", data, 18, packed & ~(2**36 - 1) | num_samples)
    return bytes(data)


def test_flac_that_claims_too_much_is_refused() -> None:
    """By its header."""
    refused(InputTooLarge, flac_that_claims(2**36 - 1, tone()))


@pytest.mark.parametrize("num_samples", [0, 100])
def test_flac_that_hides_its_length_is_measured_while_decoding(num_samples: int) -> None:
    """The header says a little or nothing; what is read stays within the limit or is refused."""
    data = flac_that_claims(num_samples, np.zeros(RATE * 60, np.float32))
    try:
        assert len(decode(data, limits=MediaLimits(max_seconds=1))) <= RATE
    except PipeserveError as error:
        assert isinstance(error, InputTooLarge | InvalidInput)


def test_silence_that_unpacks_to_hours_is_refused() -> None:
    """Ten minutes of nothing at a limit of one are a few kilobytes."""
    data = sound_file(np.zeros(600 * 8000, np.float32), 8000, "FLAC")
    assert len(data) < 200_000
    refused(InputTooLarge, data, MediaLimits(max_seconds=60))


@pytest.mark.parametrize("rate", [1, 2**32 - 1, 10_000_000])
def test_impossible_rates_are_refused(rate: int) -> None:
    """A resampler would take ages, or gigabytes, for them."""
    refused(InvalidInput, wav_header(2000, rate) + bytes(2000))


def test_many_channels_are_read_in_blocks() -> None:
    """A WAV of 200 channels costs no more memory than one of two."""
    data = wav_header(200 * 2 * 40_000, RATE, 200) + bytes(200 * 2 * 40_000)
    with at_most(25_000_000):
        assert len(decode(data)) == 40_000


@pytest.mark.parametrize(
    ("library", "name", "extra"),
    [("av", "M4A", "pipeserve[video]"), ("soundfile", "WAV", "pipeserve[audio]"), ("soxr", "WAV", "pipeserve[audio]")],
)
def test_missing_library_is_named(library: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """415 with what to install."""
    data = FILES[name]()
    monkeypatch.setitem(sys.modules, library, None)
    assert f'pip install "{extra}"' in refused(UnsupportedMedia, data)


@pytest.mark.parametrize("rate", [7000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("media_type", ["audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"])
def test_every_format_is_written(media_type: str, rate: int) -> None:
    """At every rate: resampled where the format does not know it."""
    data = encode_audio(tone(0.5, rate), rate, media_type)
    assert sniff(data) == media_type
    samples = decode(data)
    assert abs(len(samples) - 0.5 * RATE) < 0.1 * RATE
    assert abs(spectrum_peak(samples, RATE) - 440) < 10


@pytest.mark.parametrize(("media_type", "start"), [("audio/ogg", b"OpusHead"), ("audio/ogg", b"vorbis")])
def test_ogg_is_opus_where_its_rate_is(media_type: str, start: bytes) -> None:
    """And else Vorbis, that keeps every rate."""
    rate = 24_000 if start == b"OpusHead" else 22_050
    assert start in encode_audio(tone(0.5, rate), rate, media_type)[:100]


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"])
def test_two_channels_are_written(media_type: str) -> None:
    """One channel a row."""
    import io

    import soundfile

    samples = np.stack([tone(), 0 * tone()])
    read, _ = soundfile.read(io.BytesIO(encode_audio(samples, RATE, media_type)))
    assert read.shape[1] == 2
    assert np.abs(read[1000:7000, 0]).max() > 0.4
    assert np.abs(read[1000:7000, 1]).max() < 0.05


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/flac"])
def test_loud_samples_are_cut_off(media_type: str) -> None:
    """They never come back with the other sign."""
    samples = decode(encode_audio(np.array([2.0, -2.0, 0.5], np.float32), RATE, media_type))
    assert np.allclose(samples, [1, -1, 0.5], atol=1e-4)


@pytest.mark.parametrize("rate", [7000, 16_000, 22_050, 192_000])
def test_formats_of_speech_are_written(rate: int) -> None:
    """Opus at every rate, AAC with the headers of ADTS, and bare samples: 24 kHz, 16 bits, one channel."""
    sound = np.stack([tone(0.5, rate), tone(0.5, rate)])
    opus, aac, pcm = (encode_audio(sound, rate, f"audio/{name}") for name in ("opus", "aac", "pcm"))
    assert b"OpusHead" in opus[:100] and sniff(aac) == "audio/aac"
    for data in (opus, aac):
        assert abs(len(decode(data)) - 0.5 * RATE) < 0.2 * RATE
        assert abs(spectrum_peak(decode(data), RATE) - 440) < 10
    samples = np.frombuffer(pcm, "<i2") / 2**15
    assert abs(len(samples) - 12_000) < 10 and abs(spectrum_peak(samples.astype(np.float32), 24_000) - 440) < 10


def test_long_vorbis_is_written() -> None:
    """libsndfile would overflow its stack if it were written in one piece."""
    assert abs(len(decode(encode_audio(tone(120, 22_050), 22_050, "audio/ogg"))) - 120 * RATE) < RATE


def test_what_is_not_finite_is_not_written() -> None:
    """It is the model's failure."""
    with pytest.raises(BackendFailed):
        encode_audio(np.array([np.nan], np.float32), RATE, "audio/wav")


def test_other_types_are_not_written() -> None:
    """The error says which are, and how many channels MP3 has."""
    with pytest.raises(UnsupportedMedia, match="audio/wav, audio/flac, audio/ogg, audio/mpeg"):
        encode_audio(tone(), RATE, "audio/midi")
    with pytest.raises(UnsupportedMedia, match="2 channels at most"):
        encode_audio(np.zeros((3, 100), np.float32), RATE, "audio/mpeg")
    with pytest.raises(UnsupportedMedia, match="libsndfile cannot write"):
        encode_audio(tone(), 700_001, "audio/flac")
