"""Audio features: cepstra and mel spectra, with soundfile, soxr and librosa."""

from __future__ import annotations

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction.base import Extractor, describe, sequence_of

__all__ = ["MFCC", "AudioExtractor", "LogMel", "load_audio"]

_INSTALL = "`pip install crossfit-retrieval[audio]`"


def load_audio(path: str | os.PathLike[str], rate: int = 22050) -> NDArray[np.float32]:
    """Read a sound file: its channels averaged, at one sampling rate.

    Parameters
    ----------
    path : path-like
        A file in a format that libsndfile reads: WAV, FLAC, OGG, MP3, AIFF and others.
    rate : int
        Samples a second. A file with another rate is resampled by soxr in high quality, as
        librosa does.

    Returns
    -------
    float32 ndarray of shape (n_samples,)
        The sound, from -1 to 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, empty or no sound.
    ImportError
        If soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError:
        raise ImportError(f"reading sound files needs soundfile: {_INSTALL}") from None

    name = os.fspath(path)
    if not Path(name).is_file():
        raise FileNotFoundError(f"there is no sound file {name!r}")
    try:
        samples, own_rate = soundfile.read(name, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"cannot read the sound {name!r}: {error}") from error
    return _at_rate(samples.mean(1), own_rate, rate, f"the sound {name!r}")


def _at_rate(samples: NDArray[Any], own_rate: float, rate: int, name: str) -> NDArray[np.float32]:
    if not len(samples) or not np.isfinite(samples).all():
        problem = "has no samples" if not len(samples) else "has samples that are not finite"
        raise ValueError(f"{name} {problem}")
    if own_rate != rate:
        try:
            import soxr
        except ImportError:
            raise ImportError(f"resampling from {own_rate} Hz needs soxr: {_INSTALL}") from None
        samples = soxr.resample(samples, own_rate, rate)
    return np.asarray(samples, np.float32)


class AudioExtractor(Extractor):
    """Base of extractors of sound; `_extract` gets a list of float32 arrays of equal length.

    Items are paths of sound files, pairs of samples and their rate, or one-dimensional arrays of
    samples at the rate of the extractor, mixed as you like; or an array (n, n_samples) of all
    sounds at that rate. Samples are real numbers from -1 to 1. Of longer sounds the beginning
    counts, shorter ones are followed by silence.

    Parameters
    ----------
    rate : int
        Samples a second at which the sounds are worked on; others are resampled.
    duration : float
        Seconds of a sound.
    """

    expects = "sounds (paths, (samples, rate) pairs or 1-D float arrays)"

    rate: int
    duration: float

    def _as_items(self, X: Any) -> list[Any]:
        owner = type(self).__name__
        if isinstance(X, (str, os.PathLike)):
            raise TypeError(
                f"{owner} expects {self.expects}, got a single {type(X).__name__}: put it in a list"
            )
        if isinstance(X, np.ndarray) and X.ndim == 2 and _are_samples(X[0] if len(X) else X):
            return list(X)
        items = sequence_of(X, self.expects, owner)
        for item in items:
            good = isinstance(item, (str, os.PathLike)) or _are_samples(item) or _is_pair(item)
            if not good:
                raise TypeError(f"{owner} expects {self.expects}, got {describe(X, item)}")
        return items

    def _content(self, item: Any) -> bytes:
        if isinstance(item, np.ndarray):
            item = item, self.rate
        if isinstance(item, tuple):
            samples, rate = item
            return f"samples {float(rate)} {samples.dtype.str} ".encode() + samples.tobytes()
        try:
            return b"file " + Path(item).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no sound file {os.fspath(item)!r}") from None
        except OSError as error:
            raise ValueError(f"cannot read the sound {os.fspath(item)!r}: {error}") from error

    def _load(self, item: Any) -> NDArray[np.float32]:
        if isinstance(item, (str, os.PathLike)):
            samples = load_audio(item, self.rate)
        else:
            samples, own_rate = item if isinstance(item, tuple) else (item, self.rate)
            samples = _at_rate(samples, own_rate, self.rate, "the array of a sound")
        cut = samples[: self._n_samples()]
        return np.pad(cut, (0, self._n_samples() - len(cut)))

    def _n_samples(self) -> int:
        return round(self.duration * self.rate)


def _are_samples(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype.kind == "f"


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and _are_samples(item[0])
        and isinstance(item[1], Real)
        and float(item[1]) > 0
    )


class _Spectra(AudioExtractor):
    """What the two extractors share: frames of a spectrum, as a map or flat."""

    output: str
    n_fft: int
    hop_length: int
    n_mels: int
    center: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_fft": [Interval(Integral, 2, None, closed="left")],
        "hop_length": [Interval(Integral, 1, None, closed="left")],
        "n_mels": [Interval(Integral, 1, None, closed="left")],
        "center": ["boolean"],
        "duration": [Interval(Real, 0, None, closed="neither")],
        "output": [StrOptions({"map", "flat"})],
        "rate": [Interval(Integral, 1, None, closed="left")],
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
        whole = self._n_samples() if self.center else self._n_samples() - self.n_fft
        return self._n_rows() * (1 + whole // self.hop_length)

    def _spectrum(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        raise NotImplementedError

    def _extract(self, batch: list[Any]) -> NDArray[np.float32]:
        rows = np.stack([self._spectrum(samples) for samples in batch]).astype(np.float32)
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

    The settings are those of audio and lyrics retrieval [1]_: 20 coefficients in 161 frames that
    do not overlap, from 30 seconds at 22,050 Hz.

    Parameters
    ----------
    n_mfcc : int
        Number of coefficients.
    n_fft, hop_length : int
        Samples of a frame, and from one frame to the next.
    n_mels : int
        Bands of the mel spectrum that the coefficients come from.
    center : bool
        Whether frame t is centred at sample ``t * hop_length`` (with silence added at both ends)
        or begins there.
    duration : float
        Seconds of a sound. Of longer ones the beginning counts, shorter ones are followed by
        silence.
    output : {"map", "flat"}
        A matrix for each sound, or one vector, coefficient by coefficient.
    rate : int
        Samples a second; sounds with another rate are resampled.
    batch_size : int
        Sounds read at once.
    cache : bool
        Keep features in the feature cache.
    verbose : {"auto", True, False}
        Progress bar: on a terminal when a run lasts, always, never.

    Attributes
    ----------
    n_features_out_ : int
        Size of the vector; absent for ``output="map"``.

    Raises
    ------
    ImportError
        If librosa is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, n_mfcc, n_frames) or (n, n_mfcc * n_frames).

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
        "n_mfcc": [Interval(Integral, 1, None, closed="left")],
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
    n_mels : int
        Bands.
    n_fft, hop_length : int
        Samples of a frame, and from one frame to the next.
    center : bool
        Whether frame t is centred at sample ``t * hop_length`` (with silence added at both ends)
        or begins there.
    duration : float
        Seconds of a sound. Of longer ones the beginning counts, shorter ones are followed by
        silence.
    output : {"map", "flat"}
        A matrix for each sound, or one vector, band by band.
    rate : int
        Samples a second; sounds with another rate are resampled.
    batch_size : int
        Sounds read at once.
    cache : bool
        Keep features in the feature cache.
    verbose : {"auto", True, False}
        Progress bar: on a terminal when a run lasts, always, never.

    Attributes
    ----------
    n_features_out_ : int
        Size of the vector; absent for ``output="map"``.

    Raises
    ------
    ImportError
        If librosa is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, n_mels, n_frames) or (n, n_mels * n_frames).

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
