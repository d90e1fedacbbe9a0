"""Audio features: cepstra and mel spectra, with soundfile, soxr and librosa."""

from __future__ import annotations

import io
import math
import os
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._arguments import integer, real, validated
from crossfit._packed import container_of, read_file
from crossfit.extraction.base import Extractor, check_file, describe, sequence_of

__all__ = ["MFCC", "AudioExtractor", "LogMel", "load_audio"]

_INSTALL = "`pip install crossfit-retrieval[audio]`"


# Files up to this size are identified by their bytes, which is fast; longer ones by the samples
# that are read.
_SMALL_FILE = 2**24
# Seconds read beyond the duration, so that resampling is not affected by the cut.
_MARGIN = 0.5


@validated(rate=[integer(1)], duration=[real(0), None])
def load_audio(
    path: str | os.PathLike[str], rate: int = 22050, duration: float | None = None
) -> NDArray[np.float32]:
    """Load a sound file, average its channels and resample it.

    Parameters
    ----------
    path : path-like
        A file in a format that libsndfile reads (WAV, FLAC, OGG, MP3, AIFF and others), or the
        address of one in a tar, parquet or Arrow file (see `crossfit.datasets.from_webdataset`).
    rate : int, default=22050
        Sampling rate in samples per second. A file with another rate is resampled by soxr in high
        quality, as in librosa.
    duration : float, optional
        Number of seconds to read from the beginning; the rest of the file is not decoded. The
        whole file by default.

    Returns
    -------
    float32 ndarray of shape (n_samples,)
        The sound, from -1 to 1.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, empty, not a sound or not a regular file, or its samples are not
        finite.
    TypeError
        If `path` is not a path.
    ImportError
        If soundfile is not installed.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the path of a sound file, got {type(path).__name__}")
    return _load(path, rate, duration)


def _load(
    path: str | bytes | os.PathLike[str], rate: int, duration: float | None
) -> NDArray[np.float32]:
    """Return the sound in a file, by its path or its content."""
    samples, own_rate = _read(path, duration)
    name = "given" if isinstance(path, bytes) else repr(os.fspath(path))
    return _at_rate(samples, own_rate, rate, f"the sound {name}", duration)


def _read(path: str | bytes | os.PathLike[str], duration: float | None) -> tuple[NDArray[Any], int]:
    """Return the first samples of a file, with channels in columns, and their rate."""
    try:
        import soundfile
    except ImportError:
        raise ImportError(f"reading sound files needs soundfile: {_INSTALL}") from None

    source: Any
    if isinstance(path, bytes):
        name, source = "given", io.BytesIO(path)
    else:
        source = check_file(path, "sound")
        name = repr(source)
        if container_of(source) is not None:
            source = io.BytesIO(read_file(source))
    try:
        with soundfile.SoundFile(source) as file:
            frames = -1 if duration is None else _n_read(duration, file.samplerate)
            return file.read(frames, dtype="float32", always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        # soundfile raises a TypeError for a file without a header that is named as raw samples.
        raise ValueError(f"cannot read the sound {name}: {error}") from error


def _n_read(duration: float, rate: float) -> int:
    return math.ceil((duration + _MARGIN) * rate)


def _at_rate(
    samples: NDArray[Any], own_rate: float, rate: int, name: str, duration: float | None
) -> NDArray[np.float32]:
    """Return one channel, from -1 to 1, at `rate`, of at most `duration` seconds."""
    if not samples.size:
        raise ValueError(f"{name} has no samples")
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    if duration is not None:
        samples = samples[: _n_read(duration, own_rate)]
    if samples.dtype.kind != "f":
        if samples.dtype.itemsize > 4:
            # Relative to such a wide range, any recording would be silent.
            raise ValueError(
                f"{name} has samples of type {samples.dtype}, which is not a type of recordings; "
                "use the type of the recording, such as int16, or floats from -1 to 1"
            )
        # As in sound files, the middle of the type's range is silence.
        info = np.iinfo(samples.dtype)
        half = (int(info.max) + 1 - int(info.min)) // 2
        samples = (samples.astype(np.float64) - (int(info.min) + half)) / half
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is rejected below
        if samples.ndim == 2:
            samples = samples.mean(1, dtype=np.float64)
        samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} has samples that are not finite")
    if own_rate != rate:
        try:
            import soxr
        except ImportError:
            raise ImportError(f"resampling from {own_rate} Hz needs soxr: {_INSTALL}") from None
        samples = soxr.resample(samples, own_rate, rate)
    if duration is not None:
        samples = samples[: round(duration * rate)]
    return np.asarray(samples, np.float32)


class AudioExtractor(Extractor):
    """Base class of audio extractors; `_extract` receives float32 arrays of equal length.

    Items are paths or contents of sound files, pairs of samples and their rate in either order, or
    arrays of samples at the rate of the extractor, in any mixture; or all sounds are one array
    (n, n_samples) at that rate. Samples are real numbers from -1 to 1, or integers over the range
    of their type, as in WAV files: int16 from -32768 to 32767, uint8 around 128; 64-bit integers
    are rejected. In an item with two axes, the longer one is time and the other one channels, which
    are averaged. Longer sounds are cut, without decoding the rest of the file; shorter ones are
    padded with silence.

    Attributes
    ----------
    rate : int
        Sampling rate of the features in samples per second, a parameter of the subclass; other
        sounds are resampled.
    duration : float
        Length of a sound in seconds, a parameter of the subclass.

    See Also
    --------
    MFCC : Mel-frequency cepstral coefficients.
    LogMel : Logarithmic mel spectra.
    """

    expects = "sounds (paths, (samples, rate) pairs or arrays of samples)"

    rate: int
    duration: float

    def _as_items(self, X: Any) -> list[Any]:
        owner = type(self).__name__
        if isinstance(X, (str, os.PathLike)):
            raise TypeError(
                f"{owner} expects {self.expects}, got a single {type(X).__name__}: put it in a list"
            )
        if isinstance(X, np.ndarray) and X.ndim == 2 and len(X) and _are_samples(X):
            return list(X)
        items = sequence_of(X, self.expects, owner)
        for item in items:
            is_file = isinstance(item, (str, bytes, os.PathLike))
            good = is_file or _are_samples(item) or _is_pair(item)
            if not good:
                raise TypeError(f"{owner} expects {self.expects}, got {describe(X, item)}")
        # SciPy's wavfile.read puts the rate first.
        return [item[::-1] if _is_pair(item) and _are_samples(item[1]) else item for item in items]

    def _content(self, item: Any) -> bytes:
        if isinstance(item, bytes):
            return b"file " + item
        if isinstance(item, (str, os.PathLike)):
            name = check_file(item, "sound")
            try:
                if container_of(name) is not None or os.path.getsize(name) <= _SMALL_FILE:
                    return b"file " + read_file(name)
            except OSError as error:
                raise ValueError(f"cannot read the sound {name!r}: {error}") from error
            item, kind = _read(name, self.duration), "read"
        else:
            kind = "samples"
        samples, rate = item if isinstance(item, tuple) else (item, self.rate)
        head = f"{kind} {float(rate)} {samples.dtype.str} {samples.shape} "
        return head.encode() + samples.tobytes()

    def _load(self, item: Any) -> NDArray[np.float32]:
        samples = self._samples(item)
        return np.pad(samples, (0, self._n_samples() - len(samples)))

    def _samples(self, item: Any) -> NDArray[np.float32]:
        """Return the sound of an item, cut to the duration and not padded."""
        if isinstance(item, (str, bytes, os.PathLike)):
            return _load(item, self.rate, self.duration)
        samples, own_rate = item if isinstance(item, tuple) else (item, self.rate)
        return _at_rate(samples, own_rate, self.rate, "the array of a sound", self.duration)

    def _n_samples(self) -> int:
        return round(self.duration * self.rate)


def _are_samples(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.ndim in (1, 2) and item.dtype.kind in "fiu"


def _is_pair(item: Any) -> bool:
    if not isinstance(item, tuple) or len(item) != 2:
        return False
    samples, rate = item if _are_samples(item[0]) else item[::-1]
    return (
        _are_samples(samples)
        and isinstance(rate, Real)
        and not isinstance(rate, bool)
        and 0 < float(rate) < math.inf
    )


class _Spectra(AudioExtractor):
    """Base class of the two extractors: frames of a spectrum as a map, a vector or moments."""

    output: str
    n_fft: int
    hop_length: int
    n_mels: int
    center: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_fft": [Interval(Integral, 2, 2**24, closed="both")],
        "hop_length": [Interval(Integral, 1, 2**31 - 1, closed="both")],
        "n_mels": [Interval(Integral, 1, 65_536, closed="both")],
        "center": ["boolean"],
        "duration": [Interval(Real, 0, 86_400, closed="right")],
        "output": [StrOptions({"map", "flat", "moments"})],
        "rate": [Interval(Integral, 1, 10_000_000, closed="both")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.n_fft > self._n_samples():
            raise ValueError(
                f"a frame of n_fft={self.n_fft} samples is longer than the {self._n_samples()} "
                f"samples of duration={self.duration} at rate={self.rate}"
            )

    def _n_rows(self) -> int:
        return self.n_mels

    def _n_outputs(self) -> int | None:
        if self.output == "map":
            return None
        if self.output == "moments":
            return 2 * self._n_rows()
        whole = self._n_samples() if self.center else self._n_samples() - self.n_fft
        return self._n_rows() * (1 + whole // self.hop_length)

    def _spectrum(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        raise NotImplementedError

    def _extract(self, batch: list[Any]) -> NDArray[np.float32]:
        rows = np.stack([self._spectrum(samples) for samples in batch]).astype(np.float32)
        if self.output == "moments":
            return np.hstack([rows.mean(axis=2), rows.std(axis=2)])
        return rows if self.output == "map" else rows.reshape(len(rows), -1)

    def _framing(self) -> dict[str, Any]:
        return {
            "sr": self.rate,
            "n_fft": self.n_fft,
            "hop_length": self.hop_length,
            "center": self.center,
            "n_mels": self.n_mels,
        }


class MFCC(_Spectra):
    """Mel-frequency cepstral coefficients, with librosa.

    The defaults are those of a paper on audio and lyrics retrieval [1]_: 20 coefficients in 161
    frames that do not overlap, from 30 seconds at 22,050 Hz.

    Parameters
    ----------
    n_mfcc : int, default=20
        Number of coefficients.
    n_fft : int, default=4096
        Number of samples per frame.
    hop_length : int, default=4096
        Number of samples from the start of one frame to the start of the next.
    n_mels : int, default=128
        Number of bands of the mel spectrum from which the coefficients are computed.
    center : bool, default=False
        Whether frame t is centred at sample ``t * hop_length`` (with silence added at both ends)
        or begins there.
    duration : float, default=30.0
        Length of a sound in seconds. Longer sounds are cut, shorter ones are padded with silence.
    output : {"map", "flat", "moments"}, default="map"
        A matrix for each sound; one vector, coefficient by coefficient; or the mean and then the
        standard deviation of each coefficient over the frames.
    rate : int, default=22050
        Sampling rate in samples per second; sounds with another rate are resampled.
    batch_size : int, default=32
        Number of sounds read at once.
    cache : bool, default=True
        Whether to keep features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Length of the vector; absent for ``output="map"``.

    Raises
    ------
    ImportError
        If librosa is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, n_mfcc, n_frames), (n, n_mfcc * n_frames) or
    (n, 2 * n_mfcc).

    References
    ----------
    .. [1] Y. Yu, S. Tang, F. Raposo, L. Chen: Deep cross-modal correlation learning for audio and
       lyrics in music retrieval, ACM TOMM 2019.

    Examples
    --------
    >>> import numpy as np
    >>> tone = np.sin(np.arange(22050) / 9).astype(np.float32)
    >>> MFCC(cache=False).transform([tone]).shape
    (1, 20, 161)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_mfcc": [Interval(Integral, 1, 65_536, closed="both")],
        **_Spectra._parameter_constraints,
    }

    def __init__(
        self,
        n_mfcc: int = 20,
        n_fft: int = 4096,
        hop_length: int = 4096,
        n_mels: int = 128,
        center: bool = False,
        duration: float = 30.0,
        output: str = "map",
        *,
        rate: int = 22050,
        batch_size: int = 32,
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.n_mfcc = n_mfcc
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.center = center
        self.duration = duration
        self.output = output
        self.rate = rate
        self.batch_size = batch_size
        self.cache = cache
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.n_mfcc > self.n_mels:
            raise ValueError(
                f"n_mfcc must be at most n_mels, got n_mfcc={self.n_mfcc} and n_mels={self.n_mels}"
            )

    def _n_rows(self) -> int:
        return self.n_mfcc

    def _spectrum(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        return _librosa().feature.mfcc(y=samples, n_mfcc=self.n_mfcc, **self._framing())


class LogMel(_Spectra):
    """Logarithmic mel spectra, with librosa.

    Power in decibels against a full-scale amplitude of 1, down to -100.

    Parameters
    ----------
    n_mels : int, default=64
        Number of bands.
    n_fft : int, default=2048
        Number of samples per frame.
    hop_length : int, default=512
        Number of samples from the start of one frame to the start of the next.
    center : bool, default=True
        Whether frame t is centred at sample ``t * hop_length`` (with silence added at both ends)
        or begins there.
    duration : float, default=30.0
        Length of a sound in seconds. Longer sounds are cut, shorter ones are padded with silence.
    output : {"map", "flat", "moments"}, default="map"
        A matrix for each sound; one vector, band by band; or the mean and then the standard
        deviation of each band over the frames.
    rate : int, default=22050
        Sampling rate in samples per second; sounds with another rate are resampled.
    batch_size : int, default=32
        Number of sounds read at once.
    cache : bool, default=True
        Whether to keep features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Length of the vector; absent for ``output="map"``.

    Raises
    ------
    ImportError
        If librosa is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, n_mels, n_frames), (n, n_mels * n_frames) or
    (n, 2 * n_mels).

    Examples
    --------
    >>> import numpy as np
    >>> tone = np.sin(np.arange(22050) / 9).astype(np.float32)
    >>> LogMel(duration=1, cache=False).transform([tone]).shape
    (1, 64, 44)
    """

    def __init__(
        self,
        n_mels: int = 64,
        n_fft: int = 2048,
        hop_length: int = 512,
        center: bool = True,
        duration: float = 30.0,
        output: str = "map",
        *,
        rate: int = 22050,
        batch_size: int = 32,
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.n_mels = n_mels
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.center = center
        self.duration = duration
        self.output = output
        self.rate = rate
        self.batch_size = batch_size
        self.cache = cache
        self.verbose = verbose

    def _spectrum(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        librosa = _librosa()
        power = librosa.feature.melspectrogram(y=samples, **self._framing())
        return librosa.power_to_db(power, top_db=None)


def _librosa() -> Any:
    try:
        import librosa
    except ImportError:
        raise ImportError(f"spectra of sounds need librosa: {_INSTALL}") from None
    return librosa
