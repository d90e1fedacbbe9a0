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

VOC2007 = DatasetCard(
    api=API,
    name="voc2007",
    target="crossfit.datasets.voc2007:load",
    summary="9,963 photographs with 20 classes, several per picture; for probes of image features",
    modalities=("image",),
    labels="multi",
    licence=(
        "the photographs belong to their authors on Flickr and are under Flickr's terms of use; "
        "the organisers ask for the citation"
    ),
    citation=(
        "@article{everingham2010pascal,\n"
        "  title={The {PASCAL} Visual Object Classes ({VOC}) Challenge},\n"
        "  author={Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I. and Winn, "
        "John and Zisserman, Andrew},\n"
        "  journal={International Journal of Computer Vision},\n"
        "  volume={88},\n"
        "  number={2},\n"
        "  pages={303--338},\n"
        "  year={2010}\n"
        "}"
    ),
    year=2007,
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
    counts={"trainval": 5011, "test": 4952},
    splits=("official", "train-val-test"),
)

WIKIPEDIA_CAPTIONS = DatasetCard(
    api=API,
    name="wikipedia-captions",
    target="crossfit.datasets.wikipedia_captions:load",
    summary="Your own crawl of Wikipedia's pictures, each with its caption and its article",
    licence=(
        "texts and pictures under their authors' terms on Wikipedia and Wikimedia Commons; the "
        "set of 1.8 million that the authors describe is not published"
    ),
    citation=(
        "@inproceedings{patel2019self,\n"
        "  title={Self-Supervised Visual Representations for Cross-Modal Retrieval},\n"
        "  author={Patel, Yash and Gomez, Lluis and Rusi{\\~n}ol, Mar{\\c{c}}al and Karatzas, "
        "Dimosthenis and Jawahar, C. V.},\n"
        "  booktitle={Proceedings of the 2019 International Conference on Multimedia Retrieval},\n"
        "  year={2019},\n"
        "  doi={10.1145/3323873.3325035}\n"
        "}"
    ),
    year=2019,
    url="https://github.com/yash0307/Self-Supervised-Retrieval",
)

PASCAL_SENTENCES = DatasetCard(
    api=API,
    name="pascal-sentences",
    target="crossfit.datasets.pascal_sentences:load",
    summary="1,000 photographs of 20 classes with five sentences each",
    labels="single",
    licence=(
        "the photographs belong to their authors on Flickr and are under Flickr's terms of use; "
        "no licence of the sentences is known to us"
    ),
    citation=(
        "@inproceedings{rashtchian2010collecting,\n"
        "  title={Collecting Image Annotations Using {Amazon's Mechanical Turk}},\n"
        "  author={Rashtchian, Cyrus and Young, Peter and Hodosh, Micah and Hockenmaier, Julia},\n"
        "  booktitle={Proceedings of the NAACL HLT 2010 Workshop on Creating Speech and Language "
        "Data with Amazon's Mechanical Turk},\n"
        "  pages={139--147},\n"
        "  year={2010}\n"
        "}"
    ),
    year=2010,
    url="http://vision.cs.uiuc.edu/pascal-sentences/",
    counts={"test": 1000},
    splits=("all", "600-400", "800-100-100"),
)

NUS_WIDE_10K = DatasetCard(
    api=API,
    name="nus-wide-10k",
    target="crossfit.datasets.nus_wide:load",
    summary="10,000 photographs of 10 classes with their tags, drawn from NUS-WIDE",
    labels="single",
    licence=(
        "the photographs belong to their authors on Flickr and are under Flickr's terms of use; "
        "no licence of the tags and labels is known to us"
    ),
    citation=(
        "@inproceedings{chua2009nus,\n"
        "  title={{NUS-WIDE}: A Real-World Web Image Database from {National University of "
        "Singapore}},\n"
        "  author={Chua, Tat-Seng and Tang, Jinhui and Hong, Richang and Li, Haojie and Luo, "
        "Zhiping and Zheng, Yan-Tao},\n"
        "  booktitle={Proceedings of the ACM International Conference on Image and Video "
        "Retrieval},\n"
        "  year={2009}\n"
        "}\n"
        "@inproceedings{feng2014cross,\n"
        "  title={Cross-Modal Retrieval with Correspondence Autoencoder},\n"
        "  author={Feng, Fangxiang and Wang, Xiaojie and Li, Ruifan},\n"
        "  booktitle={Proceedings of the 22nd ACM International Conference on Multimedia},\n"
        "  pages={7--16},\n"
        "  year={2014}\n"
        "}"
    ),
    year=2014,
    url="https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html",
    counts={"train": 8000, "val": 1000, "test": 1000},
)

FLICKR30K = DatasetCard(
    api=API,
    name="flickr30k",
    target="crossfit.datasets.flickr30k:load",
    summary="31,783 photographs of people in everyday life with five captions each",
    licence=(
        "captions for non-commercial research and education; the photographs belong to their "
        "authors on Flickr and are under Flickr's terms of use"
    ),
    citation=(
        "@article{young2014image,\n"
        "  title={From Image Descriptions to Visual Denotations: New Similarity Metrics for "
        "Semantic Inference over Event Descriptions},\n"
        "  author={Young, Peter and Lai, Alice and Hodosh, Micah and Hockenmaier, Julia},\n"
        "  journal={Transactions of the Association for Computational Linguistics},\n"
        "  volume={2},\n"
        "  pages={67--78},\n"
        "  year={2014}\n"
        "}"
    ),
    year=2014,
    url="http://shannon.cs.illinois.edu/DenotationGraph/",
    counts={"train": 29000, "val": 1014, "test": 1000},
    splits=("karpathy", "bssan"),
)

COCO = DatasetCard(
    api=API,
    name="coco",
    target="crossfit.datasets.coco:load",
    summary="123,287 photographs of everyday scenes with five captions each (MS-COCO 2014)",
    licence=(
        "annotations: CC-BY 4.0; the photographs belong to their authors on Flickr and are under "
        "Flickr's terms of use"
    ),
    citation=(
        "@inproceedings{lin2014microsoft,\n"
        "  title={Microsoft {COCO}: Common Objects in Context},\n"
        "  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and "
        "Perona, Pietro and Ramanan, Deva and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},\n"
        "  booktitle={Computer Vision -- ECCV 2014},\n"
        "  pages={740--755},\n"
        "  year={2014}\n"
        "}"
    ),
    year=2014,
    url="https://cocodataset.org/",
    counts={"train": 82783, "val": 5000, "test": 5000},
    splits=("karpathy", "karpathy+restval", "bssan", "cran"),
)

IMAGECLEF = DatasetCard(
    api=API,
    name="imageclef-wikipedia",
    target="crossfit.datasets.imageclef:load",
    summary="237,434 pictures of Wikipedia with captions and articles (ImageCLEF 2010)",
    licence="texts and pictures under their authors' free licences, which the metadata name",
    citation=(
        "@inproceedings{popescu2010overview,\n"
        "  title={Overview of the {Wikipedia} Retrieval Task at {ImageCLEF} 2010},\n"
        "  author={Popescu, Adrian and Tsikrika, Theodora and Kludas, Jana},\n"
        "  booktitle={CLEF 2010 Notebook Papers},\n"
        "  year={2010}\n"
        "}"
    ),
    year=2010,
    url="https://www.imageclef.org/wikidata",
    counts={"train": 237434},
)

MUSIC = DatasetCard(
    api=API,
    name="music",
    target="crossfit.datasets.music:load",
    summary="10,000 songs as cepstral coefficients, Doc2Vec of their lyrics, and 20 moods",
    modalities=("audio", "text"),
    labels="single",
    licence="the songs and lyrics are not public; no licence of the collection is known to us",
    citation=(
        "@article{yu2019deep,\n"
        "  title={Deep Cross-Modal Correlation Learning for Audio and Lyrics in Music Retrieval},\n"
        "  author={Yu, Yi and Tang, Suhua and Raposo, Francisco and Chen, Lei},\n"
        "  journal={ACM Transactions on Multimedia Computing, Communications, and Applications},\n"
        "  year={2019}\n"
        "}"
    ),
    year=2017,
    url="https://arxiv.org/abs/1711.08976",
    counts={"train": 8000, "test": 2000},
)

CLOTHO = DatasetCard(
    api=API,
    name="clotho",
    target="crossfit.datasets.clotho:load",
    summary="5,929 clips of 15 to 30 seconds from Freesound with five captions each (Clotho 2.1)",
    modalities=("audio", "text"),
    licence=(
        "captions: licence of Tampere University, non-commercial with attribution; each clip is "
        "under the Creative Commons licence that clotho_metadata_*.csv names"
    ),
    citation=(
        "@inproceedings{drossos2020clotho,\n"
        "  title={Clotho: An Audio Captioning Dataset},\n"
        "  author={Drossos, Konstantinos and Lipping, Samuel and Virtanen, Tuomas},\n"
        "  booktitle={IEEE International Conference on Acoustics, Speech and Signal Processing "
        "({ICASSP})},\n"
        "  pages={736--740},\n"
        "  year={2020}\n"
        "}"
    ),
    year=2020,
    url="https://zenodo.org/records/4783391",
    counts={"train": 3839, "val": 1045, "test": 1045},
)

AUDIOCAPS = DatasetCard(
    api=API,
    name="audiocaps",
    target="crossfit.datasets.audiocaps:load",
    summary="51,308 ten-second clips of AudioSet with captions; the clips are on YouTube",
    modalities=("audio", "text"),
    licence="captions for academic purposes only; the clips belong to their authors on YouTube",
    citation=(
        "@inproceedings{kim2019audiocaps,\n"
        "  title={{AudioCaps}: Generating Captions for Audios in The Wild},\n"
        "  author={Kim, Chris Dongjoo and Kim, Byeongchang and Lee, Hyunmin and Kim, Gunhee},\n"
        "  booktitle={Proceedings of {NAACL-HLT}},\n"
        "  pages={119--132},\n"
        "  year={2019}\n"
        "}"
    ),
    year=2019,
    url="https://github.com/cdjkim/audiocaps",
    counts={"train": 49838, "val": 495, "test": 975},
    splits=("official", "2.0"),
)
