"""Cards of the encoders. This module imports none of their libraries."""

from __future__ import annotations

from crossfit.cards import ExtractorCard

_LOCAL = "a local folder, or a repository on the Hugging Face Hub with a pinned revision"

OPENCLIP = ExtractorCard(
    api=1,
    name="openclip",
    target="crossfit_encoders.openclip:OpenClipFeatures",
    summary="Both towers of CLIP models of open_clip: embeddings of pictures and of texts",
    modality="image",
    inputs=("pixels", "paths", "strings"),
    outputs=("vectors",),
    weights=f"a local file, {_LOCAL}, or a name of weights in open_clip",
    licence=(
        "open_clip: MIT; that of the weights is in their repository (MIT for LAION's and OpenAI's; "
        "Apple's and Meta's are for research only, in part), and the terms of the training pictures"
    ),
    citation=(
        "@inproceedings{radford2021clip, title={Learning transferable visual models from natural "
        "language supervision}, author={Radford, Alec and others}, booktitle={ICML}, year={2021}}\n"
        "@inproceedings{cherti2023openclip, title={Reproducible scaling laws for contrastive "
        "language-image learning}, author={Cherti, Mehdi and others}, booktitle={CVPR}, "
        "year={2023}}"
    ),
    year=2021,
)

SENTENCE_TRANSFORMERS = ExtractorCard(
    api=1,
    name="sentence-transformers",
    target="crossfit_encoders.sentence:SentenceTransformerFeatures",
    summary="Embeddings by any model of sentence-transformers, of texts and, if it can, pictures",
    modality="text",
    inputs=("strings",),
    outputs=("vectors", "regions"),
    weights=_LOCAL,
    licence=(
        "sentence-transformers: Apache-2.0; that of the weights is in their repository (Apache-2.0 "
        "for most of the library's own; CC BY-NC for some multilingual ones of others)"
    ),
    citation=(
        "@inproceedings{reimers2019sbert, title={Sentence-{BERT}: Sentence embeddings using "
        "Siamese {BERT}-networks}, author={Reimers, Nils and Gurevych, Iryna}, "
        "booktitle={EMNLP-IJCNLP}, year={2019}}"
    ),
    year=2019,
)

TIMM = ExtractorCard(
    api=1,
    name="timm",
    target="crossfit_encoders.timm:TimmFeatures",
    summary="The pooled vector or any layer of a picture network of timm",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("vectors", "regions"),
    weights=f"a local file, or {_LOCAL}",
    licence=(
        "timm: Apache-2.0; that of the weights is in their repository, and the terms of the "
        "training pictures (ImageNet: research) may apply to them"
    ),
    citation=(
        "@misc{rw2019timm, author={Wightman, Ross}, title={{PyTorch} image models}, year={2019}, "
        "howpublished={https://github.com/huggingface/pytorch-image-models}}"
    ),
    year=2019,
)

TRANSFORMERS = ExtractorCard(
    api=1,
    name="transformers",
    target="crossfit_encoders.transformers:TransformersFeatures",
    summary="Any model of transformers: CLIP, SigLIP, DINOv2, BERT, CLAP, Whisper; or per token",
    modality="image",
    inputs=("pixels", "paths", "strings", "samples"),
    outputs=("vectors", "regions"),
    weights=_LOCAL,
    licence=(
        "transformers: Apache-2.0; that of the weights is in their repository (Apache-2.0 for "
        "SigLIP, DINOv2, BERT, Whisper and LAION's CLAP; DINOv3 has a licence of its own, to be "
        "accepted on the hub)"
    ),
    citation=(
        "@inproceedings{wolf2020transformers, title={Transformers: State-of-the-art natural "
        "language processing}, author={Wolf, Thomas and others}, "
        "booktitle={EMNLP: System Demonstrations}, year={2020}}"
    ),
    year=2020,
)
