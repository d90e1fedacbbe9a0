"""Sound: files and arrays, MFCC and mel spectra against librosa."""

import json
import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone

from crossfit.cache import FeatureCache
from crossfit.extraction import MFCC, AudioExtractor, LogMel, audio, load_audio
from crossfit.views import Views

librosa = pytest.importorskip("librosa")
soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")

RATE = 22050


def tone(seconds=1.0, rate=RATE, hertz=440.0, seed=0):
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.4 * np.sin(2 * np.pi * hertz * time) + 0.01 * noise).astype(np.float32)


@pytest.fixture
def clip(data_root):
    clips = sorted((data_root / "esc10").glob("001*/*.ogg"))
    if not clips:
        pytest.skip(f"needs esc10 in {data_root}")
    return clips[0]


@pytest.mark.data
def test_a_real_clip_is_read_as_librosa_does(clip):
    expected, _ = librosa.load(clip, sr=RATE)
    got = load_audio(clip)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.data
def test_mfcc_of_a_real_clip(clip):
    """METHODS 2.2: 30 seconds at 22,050 Hz make 161 frames."""
    expected, _ = librosa.load(clip, sr=RATE)
    padded = np.pad(expected, (0, 30 * RATE - len(expected)))
    expected = librosa.feature.mfcc(
        y=padded, sr=RATE, n_mfcc=20, n_fft=4096, hop_length=4096, center=False
    )
    got = MFCC(cache=False).fit_transform([clip])
    assert got.shape == (1, 20, 161)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_channels_and_rates(tmp_path, suffix):
    left, right = tone(rate=44100), tone(rate=44100, hertz=880, seed=1)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([left, right], 1), 44100)
    got = load_audio(path, RATE)
    lossy = suffix in ("ogg", "mp3")
    expected = soxr.resample((left + right) / 2, 44100, RATE)
    if lossy:  # MP3 adds silence at the start; the pitch is the same
        power = np.abs(np.fft.rfft(got[:RATE]))
        assert set(np.argsort(power)[-2:] // 10) == {44, 88}
    else:
        np.testing.assert_allclose(got, expected, atol=1e-3)
    same = load_audio(path, 44100)
    assert abs(len(same) - 44100) < (5000 if lossy else 1)


def test_all_forms_of_an_item(tmp_path):
    sounds = [tone(seed=0), tone(seed=1)]
    paths = []
    for i, sound in enumerate(sounds):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], sound, RATE, subtype="FLOAT")
    extractor = MFCC(duration=1.0, n_fft=1024, hop_length=512)
    expected = extractor.fit_transform(sounds)
    forms = [
        np.stack(sounds),
        paths,
        [str(path) for path in paths],
        np.array([str(path) for path in paths]),
        [(sounds[0], RATE), paths[1]],
        [sounds[0].astype(np.float64), (sounds[1], np.int64(RATE))],
    ]
    for form in forms:
        np.testing.assert_allclose(extractor.transform(form), expected, atol=1e-3)
    # At twice the rate the sound is twice as fast and twice as high.
    fast = extractor.transform([(sounds[0], 2 * RATE)])
    assert not np.allclose(fast[0], expected[0], atol=1)


def test_sounds_with_their_rates_are_a_view():
    sounds = [tone(), tone(0.5, hertz=880)]
    plain = MFCC().fit_transform(sounds)
    for pairs in ([(s, RATE) for s in sounds], [(RATE, s) for s in sounds]):
        np.testing.assert_array_equal(MFCC().fit_transform(Views(sound=pairs)["sound"]), plain)
    with pytest.raises(ValueError, match="unequal shape"):
        Views(sound=[(1.0, 2.0), (1.0, 2.0, 3.0)])


def test_resampling():
    fine = tone(rate=44100)
    got = LogMel(duration=1.0, cache=False).transform([(fine, 44100)])
    expected = LogMel(duration=1.0, cache=False).transform([soxr.resample(fine, 44100, RATE)])
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_short_is_followed_by_silence_and_long_is_cut():
    extractor = MFCC(duration=1.0, n_fft=1024, hop_length=512, cache=False)
    sound = tone(1.5)
    np.testing.assert_array_equal(extractor.transform([sound]), extractor.transform([sound[:RATE]]))
    short = sound[:10000]
    np.testing.assert_array_equal(
        extractor.transform([short]),
        extractor.transform([np.pad(short, (0, RATE - 10000))]),
    )
    assert not np.allclose(extractor.transform([short]), extractor.transform([sound]))


@pytest.mark.parametrize("center", [True, False])
def test_log_mel_is_librosas(center):
    sound = tone(2.0)
    settings = {"n_fft": 1024, "hop_length": 300, "n_mels": 40, "center": center}
    power = librosa.feature.melspectrogram(y=sound, sr=RATE, **settings)
    expected = 10 * np.log10(np.maximum(power, 1e-10))
    extractor = LogMel(duration=2.0, cache=False, **settings).fit([sound])
    got = extractor.transform([sound])
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-3)
    assert not hasattr(extractor, "n_features_out_")
    flat = clone(extractor).set_params(output="flat").fit([sound])
    assert flat.n_features_out_ == expected.size
    np.testing.assert_array_equal(flat.transform([sound])[0], got.ravel())
    moments = clone(extractor).set_params(output="moments").fit([sound])
    assert moments.n_features_out_ == 2 * len(expected)
    np.testing.assert_array_equal(
        moments.transform([sound])[0], np.concatenate([got[0].mean(axis=1), got[0].std(axis=1)])
    )
    silence = extractor.transform([np.zeros(99, np.float32)])
    np.testing.assert_allclose(silence, -100)


@pytest.mark.parametrize("center", [True, False])
def test_flat_cepstra(center):
    extractor = MFCC(center=center, duration=1.0, n_fft=1024, hop_length=700, output="flat")
    extractor.fit([tone()])
    assert extractor.transform([tone()]).shape == (1, extractor.n_features_out_)
    assert extractor.get_feature_names_out()[-1] == f"mfcc{extractor.n_features_out_ - 1}"


def test_the_published_size():
    assert MFCC(output="flat", cache=False).fit([tone()]).n_features_out_ == 20 * 161


def test_batches_copies_and_the_cache(tmp_path, monkeypatch):
    sounds = [tone(seed=i) for i in range(5)]
    extractor = MFCC(duration=0.5, n_fft=512, hop_length=512).fit(sounds)
    expected = extractor.transform(sounds)
    for copy in (clone(extractor), pickle.loads(pickle.dumps(extractor))):
        copy.set_params(batch_size=2, cache=False)
        np.testing.assert_array_equal(copy.fit(sounds).transform(sounds[::-1])[::-1], expected)
    twin = clone(extractor)
    state, arrays = extractor.__crossfit_state__()
    twin.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
    # The same sound under another name is read from the cache, without librosa.
    for i, sound in enumerate(sounds):
        soundfile.write(tmp_path / f"{i}.wav", sound, RATE, subtype="FLOAT")
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    by_path = extractor.transform(paths)
    moved = [path.rename(tmp_path / f"moved{path.name}") for path in paths]
    monkeypatch.setattr(audio, "_librosa", None)
    np.testing.assert_array_equal(twin.transform(moved), by_path)
    np.testing.assert_array_equal(twin.transform(sounds), expected)
    assert FeatureCache().info()["extractors"]["MFCC"]["entries"] == 10


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ("a.wav", TypeError, "a single str: put it in a list"),
        ([np.zeros(9, bool)], TypeError, "list of 1 ndarray"),
        ([np.zeros(9, complex)], TypeError, "list of 1 ndarray"),
        ([np.zeros((9, 2, 1))], TypeError, "list of 1 ndarray"),
        ([(True, np.zeros(9))], TypeError, "list of 1 tuple"),
        ([(np.zeros(9), np.inf)], TypeError, "list of 1 tuple"),
        ([(9, 22050)], TypeError, "list of 1 tuple"),
        ([(np.zeros(9), np.zeros(9))], TypeError, "list of 1 tuple"),
        ([(np.zeros(9), 0)], TypeError, "list of 1 tuple"),
        ([(np.zeros(9), "fast")], TypeError, "list of 1 tuple"),
        ((np.zeros(9), 22050), TypeError, "tuple of 2 int"),
        (np.zeros((2, 3, 4)), TypeError, r"float64 array of shape \(2, 3, 4\)"),
        ([], ValueError, "list of 0"),
        (["absent.wav"], FileNotFoundError, "there is no sound file 'absent.wav'"),
        ([np.zeros(0)], ValueError, "the array of a sound has no samples"),
        ([np.zeros((2, 0))], ValueError, "the array of a sound has no samples"),
        ([np.array([0, 1e300])], ValueError, "has samples that are not finite"),
        ([np.array([0, np.nan])], ValueError, "has samples that are not finite"),
        (
            [np.array([0, 9])],
            ValueError,
            "samples of type int64, which is not a type of recordings",
        ),
    ],
)
def test_wrong_sounds_are_named(given_, error, message):
    with pytest.raises(error, match=message):
        MFCC(duration=1.0).transform(given_)


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"cannot read the sound '.*a\.wav'"):
        MFCC(duration=1.0).transform([tmp_path / "a.wav"])
    soundfile.write(tmp_path / "b.wav", np.zeros(0), RATE)
    with pytest.raises(ValueError, match=r"the sound '.*b\.wav' has no samples"):
        load_audio(tmp_path / "b.wav")
    with pytest.raises(FileNotFoundError, match="there is no sound file"):
        load_audio(tmp_path / "c.wav")


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (
            MFCC(duration=0.1),
            r"n_fft=4096 samples is longer than the 2205 samples of duration=0\.1",
        ),
        (MFCC(n_mfcc=200), "n_mfcc must be at most n_mels, got n_mfcc=200 and n_mels=128"),
        (LogMel(duration=0), "'duration' parameter of LogMel"),
        (LogMel(output="mean"), "'output' parameter of LogMel"),
    ],
)
def test_wrong_parameters_are_named(extractor, message):
    with pytest.raises(ValueError, match=message):
        extractor.fit([tone()])


@pytest.mark.parametrize("missing", ["soundfile", "soxr", "librosa"])
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, missing):
    soundfile.write(tmp_path / "a.wav", tone(rate=8000), 8000)
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"needs? {missing}: `pip install crossfit-retrieval\[audio\]`"
    with pytest.raises(ImportError, match=message):
        MFCC(duration=1.0, cache=False).transform([tmp_path / "a.wav"])


def test_an_extractor_of_ones_own():
    class Loudness(AudioExtractor):
        expects = "sounds"
        rate, duration = 100, 0.05

        def _extract(self, batch):
            return np.stack([[np.abs(sound).max(), len(sound)] for sound in batch])

    got = Loudness().transform([np.array([0.5, -1.0]), np.full(9, 0.25)])
    assert got.tolist() == [[1, 5], [0.25, 5]]


@pytest.mark.parametrize("dtype", ["i2", "i4", "u1", "i1", "<f4", ">f4", ">i2", "f8"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_of_every_type_against_the_file(tmp_path, dtype, channels):
    """Sounds are read as SciPy and soundfile return them, from the same file."""
    from scipy.io import wavfile

    sound = np.stack([tone(seed=i, hertz=440 * (i + 1)) for i in range(channels)], 1)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        middle, half = (info.min + info.max + 1) // 2, 2.0 ** (8 * dtype.itemsize - 1)
        sound = np.round(sound.astype(float) * (half - 1) + middle).astype(dtype)
    else:
        sound, middle, half = sound.astype(dtype), 0, 1
    real = (sound.astype(float) - middle) / half
    path = tmp_path / "x.wav"
    soundfile.write(path, real, RATE, subtype="DOUBLE")
    extractor = MFCC(duration=1.0, n_fft=1024, hop_length=512, cache=False)
    expected = extractor.transform([path])
    forms = [sound, sound.T, (sound, RATE), (RATE, sound), (RATE, np.ascontiguousarray(sound.T))]
    if channels == 1:
        forms += [sound[:, 0], (RATE, sound[:, 0])]
    for form in forms:
        np.testing.assert_allclose(extractor.transform([form]), expected, atol=1e-3)
    if dtype in (np.int16, np.int32, np.uint8, np.dtype("f4")):
        wavfile.write(path, RATE, sound)
        np.testing.assert_allclose(extractor.transform([path]), expected, atol=1e-3)
        got = extractor.transform([wavfile.read(path), soundfile.read(path)])
        np.testing.assert_allclose(got, np.concatenate([expected] * 2), atol=1e-3)
    if channels == 1:
        table = np.stack([sound[:, 0], sound[::-1, 0]])
        np.testing.assert_allclose(extractor.transform(table)[0], expected[0], atol=1e-3)


@pytest.mark.parametrize("value", [3e38, 1e30])
def test_samples_whose_spectrum_overflows_are_named(tmp_path, value):
    loud = np.full(RATE, value, np.float32)
    loud[::2] *= -1
    soundfile.write(tmp_path / "x.wav", np.stack([loud, loud], 1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "good.wav", tone(), RATE)
    for error in ("warn", "raise"):
        for extractor in (MFCC(duration=1.0), LogMel(duration=1.0)):
            with (
                np.errstate(all=error),
                pytest.raises(ValueError, match=r"not finite for item 1, '.*x\.wav'$"),
            ):
                extractor.transform([tmp_path / "good.wav", tmp_path / "x.wav"])
            with pytest.raises(
                ValueError, match=r"(MFCC|LogMel) returned .* not finite for item 0$"
            ):
                extractor.transform([loud])
    assert FeatureCache().info()["entries"] == 2  # of the valid file


class Counting:
    """A file that counts the bytes read from it."""

    frames = 0

    def __init__(self, original):
        self.original = original

    def __call__(self, file, frames=-1, **kwargs):
        read = self.original(file, frames, **kwargs)
        Counting.frames += len(read)
        return read


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [RATE, 16000, 48000])
def test_no_more_is_read_than_is_wanted(tmp_path, monkeypatch, suffix, rate):
    path = tmp_path / f"long.{suffix}"
    soundfile.write(path, tone(20, rate), rate)
    whole = load_audio(path)
    extractor = MFCC(duration=1.0, n_fft=1024, hop_length=512, cache=False)
    expected = extractor.transform([whole])
    Counting.frames = 0
    counting = Counting(soundfile.SoundFile.read)
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, *args, **kwargs: counting(self, *args, **kwargs)
    )
    np.testing.assert_allclose(load_audio(path, duration=1.0), whole[:RATE], atol=1e-6)
    assert Counting.frames <= 1.5 * rate + 1
    np.testing.assert_allclose(extractor.transform([path]), expected, atol=1e-2)
    assert Counting.frames <= 2 * (1.5 * rate + 1)
    # Nor more of an array, which would be resampled as a whole.
    with monkeypatch.context() as patch:
        patch.setattr(soxr, "resample", lambda samples, *_: np.zeros(len(samples), np.float32))
        got = audio._at_rate(np.zeros(100 * rate, np.float32), rate, rate + 1, "it", 1.0)
    assert len(got) <= rate + 1


def test_an_hour_of_silence_is_opened_for_a_second(tmp_path):
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * 8000))
    assert path.stat().st_size < 1e6
    tracemalloc.start()
    got = LogMel(duration=1.0, cache=False).transform([path])
    assert tracemalloc.get_traced_memory()[1] < 30e6  # all of its samples in float32 are 115 MB
    tracemalloc.stop()
    np.testing.assert_allclose(got, -100)


def test_long_files_are_told_apart_by_what_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_SMALL_FILE", 1000)
    sound = tone(4)
    other = sound.copy()
    other[5000] += 0.25
    beyond = sound.copy()
    beyond[-1] += 0.25
    for name, samples in {"a": sound, "b": other, "c": beyond}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    extractor = MFCC(duration=1.0)
    got = extractor.transform([tmp_path / f"{name}.wav" for name in "abc"])
    assert not np.allclose(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])
    assert FeatureCache().info()["entries"] == 2
    np.testing.assert_array_equal(extractor.transform([tmp_path / "b.wav"]), got[[1]])
    extractor.set_params(duration=2.0).transform([tmp_path / "b.wav"])
    assert FeatureCache().info()["entries"] == 3


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match=r"cannot read the sound .*: it is not a regular file"):
            load_audio(path)
        with pytest.raises(ValueError, match=r"cannot read the sound .*: it is not a regular file"):
            MFCC().transform([path])


def test_wrong_arguments_of_load_audio(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    for settings in (
        {"rate": 0},
        {"rate": 1.5},
        {"rate": True},
        {"duration": 0},
        {"duration": "1"},
    ):
        (name,) = settings
        with pytest.raises(ValueError, match=f"'{name}' parameter of load_audio must be"):
            load_audio(tmp_path / "a.wav", **settings)
    for wrong in (3, None, b"a.wav", ["a.wav"], tone()):
        with pytest.raises(TypeError, match="path must be the path of a sound file, got "):
            load_audio(wrong)
    (tmp_path / "x.raw").write_bytes(b"\1\2" * 100)
    with pytest.raises(ValueError, match=r"cannot read the sound '.*x\.raw'"):
        load_audio(tmp_path / "x.raw")
