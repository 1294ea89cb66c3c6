"""Sounds: decoded to mono at the rate that a model wants, encoded as WAV, FLAC, Ogg, MP3, AAC or bare samples."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BackendFailed, InvalidInput, UnsupportedMedia
from app.media.containers import DEMUXERS, open_container
from app.media.libraries import load_library
from app.media.limits import MediaLimits
from app.media.sniff import sniff

Samples = NDArray[np.float32]

READ = "WAV, FLAC, Ogg (Vorbis, Opus), MP3, and with PyAV M4A, MP4, AAC, WebM and Matroska"
_BY_SOUNDFILE = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
_BLOCK_VALUES = 2**18  # decoded at a time, over all channels
_MIN_RATE, _MAX_RATE = 100, 768_000  # of a file: below and above lie errors, and the resampler's worst cases
_UNKNOWN_LENGTH = 2**62  # what libsndfile says of streams is near 2**63


def decode_audio(data: bytes, sampling_rate: int, limits: MediaLimits, *, param: str) -> Samples:
    """[n] float32, channels averaged, resampled (soxr, high quality) to `sampling_rate`; at least one sample.

    Decoded in blocks: only the result is held as a whole. Raises InvalidInput, InputTooLarge (by the header, and while
    decoding, since a header may lie), UnsupportedMedia.
    """
    limits.require_bytes(len(data), param=param)
    if not data:
        raise InvalidInput(f"{param}: the file is empty; a sound is needed.", param=param)
    media_type = sniff(data)
    if media_type in _BY_SOUNDFILE:
        return _decode_by_soundfile(data, sampling_rate, limits, param)
    if media_type in DEMUXERS:
        return _decode_by_av(data, media_type, sampling_rate, limits, param)
    if media_type is None:
        raise InvalidInput(f"{param}: this is not a sound that is known here; {READ} are.", param=param)
    raise UnsupportedMedia(f"{param}: {media_type} is not read as a sound here; {READ} are.", param=param)


class _Mono:
    """Takes blocks as they are decoded and keeps them as the model wants them."""

    def __init__(self, source_rate: int, sampling_rate: int, limits: MediaLimits, param: str) -> None:
        if not _MIN_RATE <= source_rate <= _MAX_RATE:
            raise InvalidInput(
                f"{param}: a sampling rate of {source_rate:,} Hz; {_MIN_RATE:,} to {_MAX_RATE:,} are read.", param=param
            )
        soxr = load_library("soxr", what="Sounds", param=param)
        is_same = source_rate == sampling_rate
        self._resampler: Any = None if is_same else soxr.ResampleStream(source_rate, sampling_rate, 1, quality="HQ")
        self._source_rate = source_rate
        self._limits = limits
        self._param = param
        self._num_samples = 0
        self._last: Samples = np.zeros(0, np.float32)
        self._parts: list[Samples] = []

    def add(self, block: NDArray[Any]) -> None:
        """block: [n, channels]. Raises InvalidInput for NaN and infinity, InputTooLarge."""
        self._num_samples += len(block)
        self._limits.require_seconds(self._num_samples / self._source_rate, param=self._param)
        with np.errstate(over="ignore", invalid="ignore"):
            mono: Samples = np.asarray(block.mean(axis=1, dtype=np.float64), dtype=np.float32)
        if not np.isfinite(mono).all():
            raise InvalidInput(f"{self._param}: the sound holds samples that are not finite.", param=self._param)
        if len(mono):
            self._last = mono
            self._parts.append(mono if self._resampler is None else self._resampler.resample_chunk(mono))

    def finish(self) -> Samples:
        if not self._num_samples:
            raise InvalidInput(f"{self._param}: the sound has no samples.", param=self._param)
        if self._resampler is not None:
            self._parts.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        samples = np.concatenate(self._parts)
        # So short a sound that not one sample of the new rate falls into it keeps its last.
        return samples if len(samples) else self._last[-1:]


def _decode_by_soundfile(data: bytes, sampling_rate: int, limits: MediaLimits, param: str) -> Samples:
    soundfile = load_library("soundfile", what="Sounds", param=param)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames < _UNKNOWN_LENGTH:
                limits.require_seconds(file.frames / max(1, file.samplerate), param=param)
            mono = _Mono(file.samplerate, sampling_rate, limits, param)
            num_frames = max(1, _BLOCK_VALUES // file.channels)
            while len(block := file.read(num_frames, dtype="float32", always_2d=True)):
                mono.add(block)
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise _broken(error, param) from None
    return mono.finish()


def _decode_by_av(data: bytes, media_type: str, sampling_rate: int, limits: MediaLimits, param: str) -> Samples:
    av = load_library("av", what="Sounds in M4A, MP4, AAC, WebM and Matroska files", param=param)
    mono: _Mono | None = None
    try:
        with open_container(av, data, media_type, limits, param=param) as container:
            if not container.streams.audio:
                raise InvalidInput(f"{param}: there is no sound in this file.", param=param)
            if container.duration is not None:
                limits.require_seconds(container.duration / av.time_base, param=param)
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise UnsupportedMedia(f"{param}: the sound's codec is not known here.", param=param)
            stream.thread_type = "NONE"
            with closing(_float_frames(av, container, stream)) as frames:
                for rate, block in frames:
                    mono = mono or _Mono(rate, sampling_rate, limits, param)
                    mono.add(block)
    except (av.FFmpegError, ValueError, MemoryError) as error:  # absurd sizes end in FFmpeg's ENOMEM
        raise _broken(error, param) from None
    if mono is None:
        raise InvalidInput(f"{param}: the sound has no samples.", param=param)
    return mono.finish()


def _float_frames(av: Any, container: Any, stream: Any) -> Generator[tuple[int, Samples]]:
    """The rate and [n, channels] of each frame. Raises ValueError where the format changes on the way."""
    # Only the type of samples changes, channels and rate stay. Packed: of planes, PyAV 18 reads those past the eighth
    # from anywhere, which ends the process.
    resampler = av.AudioResampler(format="flt")
    for frame in container.decode(stream):
        for converted in resampler.resample(frame):
            yield converted.sample_rate, converted.to_ndarray().reshape(-1, converted.layout.nb_channels)


def _broken(error: Exception, param: str) -> InvalidInput:
    text = " ".join(str(error).split()).rstrip(".")[:160] or type(error).__name__
    return InvalidInput(f"{param}: the sound is broken or cut short: {text}.", param=param)


WRITTEN = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "audio/opus", "audio/aac", "audio/pcm")
PCM_RATE = 24_000  # OpenAI's
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_MAX_CHANNELS = {"audio/flac": 8, "audio/ogg": 8, "audio/opus": 8, "audio/mpeg": 2, "audio/aac": 2}


def encode_audio(samples: Samples, sampling_rate: int, media_type: str) -> bytes:
    """samples: [n] or [channels, n]; what lies outside of -1 to 1 is cut off. WAV and FLAC have 16 bits; Ogg is Opus at
    the rates that Opus has and else Vorbis; `audio/opus` is Ogg with Opus whatever the rate; `audio/aac` has the frames
    of ADTS; `audio/pcm` is one channel at PCM_RATE, 16 bits, little-endian, without a header. A rate that the format
    does not know is resampled to one above it.

    Raises UnsupportedMedia (no such format, or not in this libsndfile), BackendFailed for NaN and infinity.
    """
    if media_type not in WRITTEN:
        raise UnsupportedMedia(f"Sounds are written as {', '.join(WRITTEN)}, not as {media_type}.")
    by_channel = np.atleast_2d(np.asarray(samples, dtype=np.float32)).T
    if not np.isfinite(by_channel).all():
        raise BackendFailed("The model computed a sample that is not finite (NaN or infinity).")
    if by_channel.shape[1] > _MAX_CHANNELS.get(media_type, 1024):
        raise UnsupportedMedia(
            f"{media_type} holds {_MAX_CHANNELS[media_type]} channels at most; this sound has {by_channel.shape[1]}."
        )
    if media_type == "audio/pcm":
        mono = by_channel.mean(axis=1, keepdims=True, dtype=np.float32)
        resampled = _resampled(mono, sampling_rate, PCM_RATE).clip(-1, 1)
        return np.round(resampled * 32767).astype("<i2").tobytes()
    if media_type == "audio/aac":
        rate = _next_rate(_AAC_RATES, sampling_rate)
        return _write_aac(_resampled(by_channel, sampling_rate, rate).clip(-1, 1), rate)
    container, subtype, rate = _format_of(media_type, sampling_rate)
    return _write(_resampled(by_channel, sampling_rate, rate).clip(-1, 1), rate, container, subtype)


def _format_of(media_type: str, sampling_rate: int) -> tuple[str, str, int]:
    """libsndfile's names, and the rate to write."""
    if media_type == "audio/mpeg":
        return "MP3", "MPEG_LAYER_III", _next_rate(_MP3_RATES, sampling_rate)
    if media_type == "audio/opus":
        return "OGG", "OPUS", _next_rate(_OPUS_RATES, sampling_rate)
    if media_type == "audio/ogg":
        is_for_vorbis = 8000 < sampling_rate <= 96_000 and sampling_rate not in _OPUS_RATES
        return (
            ("OGG", "VORBIS", sampling_rate)
            if is_for_vorbis
            else ("OGG", "OPUS", _next_rate(_OPUS_RATES, sampling_rate))
        )
    return ("WAV" if media_type == "audio/wav" else "FLAC"), "PCM_16", sampling_rate


def _next_rate(rates: tuple[int, ...], sampling_rate: int) -> int:
    return next((rate for rate in rates if rate >= sampling_rate), rates[-1])


def _resampled(by_channel: Samples, source_rate: int, rate: int) -> Samples:
    if source_rate == rate:
        return by_channel
    resampled: Samples = load_library("soxr", what="Sounds").resample(by_channel, source_rate, rate, quality="HQ")
    return resampled


def _write_aac(by_channel: Samples, rate: int) -> bytes:
    av = load_library("av", what="Sounds in AAC")
    buffer = io.BytesIO()
    layout = "mono" if by_channel.shape[1] == 1 else "stereo"
    with av.open(buffer, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(by_channel.T), format="fltp", layout=layout)
        frame.sample_rate = rate
        for part in (frame, None):
            container.mux(stream.encode(part))
    return buffer.getvalue()


def _write(by_channel: Samples, rate: int, container: str, subtype: str) -> bytes:
    """In blocks: libsndfile's Vorbis keeps each block that it gets on the stack."""
    soundfile = load_library("soundfile", what="Sounds")
    buffer = io.BytesIO()
    num_channels = by_channel.shape[1]
    try:
        with soundfile.SoundFile(buffer, "w", rate, num_channels, subtype, format=container) as file:
            for start in range(0, len(by_channel), 2**14):
                file.write(np.ascontiguousarray(by_channel[start : start + 2**14]))
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        name = f"{container} ({subtype})"
        raise UnsupportedMedia(f"This server's libsndfile cannot write {name} at {rate} Hz: {error}") from None
    return buffer.getvalue()
