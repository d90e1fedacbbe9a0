"""Cards of the data sets that crossfit can load."""

from __future__ import annotations

from crossfit.cards import API, DatasetCard

EMOJI = DatasetCard(
    api=API,
    name="emoji",
    target="crossfit.datasets.emoji:load",
    summary="1,636 emoji pictures with their keywords in 8 classes; comes with crossfit",
    labels="single",
    licence=(
        "pictures: Twemoji, CC-BY 4.0, copyright Twitter, Inc and other contributors; "
        "keywords: emojilib, MIT, copyright Mu-An Chiou; table: emoji-data, MIT, copyright "
        "Cal Henderson"
    ),
    citation=(
        "Twemoji pictures (emoji-datasource-twitter 16.0.0) with emojilib 4.0.3 keywords, "
        "as split by crossfit"
    ),
    url="https://github.com/iamcal/emoji-data",
    counts={"train": 1149, "val": 163, "test": 324},
    embedded=True,
)

WIKIPEDIA = DatasetCard(
    api=API,
    name="wikipedia",
    target="crossfit.datasets.wikipedia:load",
    summary="2,866 sections of featured Wikipedia articles with a picture each, 10 classes",
    labels="single",
    licence=(
        "texts and pictures under their authors' terms on Wikipedia and Wikimedia Commons; no "
        "licence of the collection itself is known to us"
    ),
    citation=(
        "@inproceedings{rasiwasia2010new,\n"
        "  title={A New Approach to Cross-Modal Multimedia Retrieval},\n"
        "  author={Rasiwasia, Nikhil and Costa Pereira, Jose and Coviello, Emanuele and Doyle, "
        "Gabriel and Lanckriet, Gert R. G. and Levy, Roger and Vasconcelos, Nuno},\n"
        "  booktitle={Proceedings of the 18th ACM International Conference on Multimedia},\n"
        "  pages={251--260},\n"
        "  year={2010}\n"
        "}"
    ),
    year=2010,
    url="http://www.svcl.ucsd.edu/projects/crossmodal/",
    counts={"train": 2173, "test": 693},
    splits=("official", "acln"),
)

FLICKR8K = DatasetCard(
    api=API,
    name="flickr8k",
    target="crossfit.datasets.flickr8k:load",
    summary="8,000 photographs of people and animals in action with five captions each",
    licence=(
        "captions for non-commercial research and education; the photographs belong to their "
        "authors on Flickr and are under Flickr's terms of use"
    ),
    citation=(
        "@article{hodosh2013framing,\n"
        "  title={Framing Image Description as a Ranking Task: Data, Models and Evaluation "
        "Metrics},\n"
        "  author={Hodosh, Micah and Young, Peter and Hockenmaier, Julia},\n"
        "  journal={Journal of Artificial Intelligence Research},\n"
        "  volume={47},\n"
        "  pages={853--899},\n"
        "  year={2013}\n"
        "}"
    ),
    year=2013,
    url="http://hockenmaier.cs.illinois.edu/8k-pictures.html",
    counts={"train": 6000, "dev": 1000, "test": 1000},
)

ESC10 = DatasetCard(
    api=API,
    name="esc10",
    target="crossfit.datasets.esc10:load",
    summary="400 five-second clips of ten environmental sounds in five folds, with their titles",
    modalities=("audio", "text"),
    labels="single",
    licence=(
        "each clip is from Freesound under CC0, CC-BY 3.0 or Sampling+, as README.md lists; it "
        "states none for the collection itself"
    ),
    citation=(
        "@inproceedings{piczak2015esc,\n"
        "  title={{ESC}: Dataset for Environmental Sound Classification},\n"
        "  author={Piczak, Karol J.},\n"
        "  booktitle={Proceedings of the 23rd ACM International Conference on Multimedia},\n"
        "  pages={1015--1018},\n"
        "  year={2015}\n"
        "}"
    ),
    year=2015,
    url="https://github.com/karoldvl/ESC-10",
    counts={"train": 240, "test": 80},
)
