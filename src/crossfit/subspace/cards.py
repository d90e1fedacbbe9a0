"""Cards of the closed-form methods."""

from crossfit.cards import Choice, Each, Float, Int, MethodCard
from crossfit.search_space import Space

VECTORS = {"image": ("vectors",), "text": ("vectors",)}

CCA = MethodCard(
    api=1,
    name="cca",
    target="crossfit.subspace.cca:CCA",
    summary="Canonical correlation analysis, regularised, two or more views",
    roles=("image", "text"),
    extra_views=True,
    missing_views=True,
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=1936,
    citation="""@article{hotelling1936relations,
  author  = {Harold Hotelling},
  title   = {Relations Between Two Sets of Variates},
  journal = {Biometrika},
  volume  = {28},
  number  = {3/4},
  pages   = {321--377},
  year    = {1936}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "reg": Each(("image", "text"), Float(1e-4, 10.0, log=True)),
        "power": Choice(0.0, 1.0, 4.0),
    },
    test_params={"n_components": 4},
)

_RASIWASIA = """@inproceedings{rasiwasia2010new,
  author    = {Nikhil Rasiwasia and Jose {Costa Pereira} and Emanuele Coviello and Gabriel Doyle
               and Gert R. G. Lanckriet and Roger Levy and Nuno Vasconcelos},
  title     = {A New Approach to Cross-Modal Multimedia Retrieval},
  booktitle = {ACM Multimedia},
  pages     = {251--260},
  year      = {2010}
}"""
_POSTERIOR_MEASURES = Choice("cosine", "correlation", "l1", "kl", "posterior_over_prior")

CM = MethodCard(
    api=1,
    name="cm",
    target="crossfit.subspace.semantic:CM",
    summary="Correlation matching: canonical components compared by a chosen similarity",
    inputs=VECTORS,
    year=2010,
    citation=_RASIWASIA,
    search_space={
        "n_components": Int(2, 64, log=True),
        "reg": Each(("image", "text"), Float(1e-4, 10.0, log=True)),
        "measure": Choice("cosine", "correlation", "l1", "l2"),
    },
    test_params={"n_components": 4},
)

SM = MethodCard(
    api=1,
    name="sm",
    target="crossfit.subspace.semantic:SM",
    summary="Semantic matching: class posteriors of one classifier per view",
    inputs=VECTORS,
    labels="single",
    year=2010,
    citation=_RASIWASIA,
    search_space={"measure": _POSTERIOR_MEASURES, "C": Float(1e-4, 10.0, log=True)},
)

SCM = MethodCard(
    api=1,
    name="scm",
    target="crossfit.subspace.semantic:SCM",
    summary="Semantic correlation matching: class posteriors from canonical components",
    inputs=VECTORS,
    labels="single",
    year=2010,
    citation=_RASIWASIA,
    search_space={
        "n_components": Int(2, 64, log=True),
        "reg": Each(("image", "text"), Float(1e-4, 10.0, log=True)),
        "measure": _POSTERIOR_MEASURES,
        "C": Float(1e-4, 10.0, log=True),
    },
    test_params={"n_components": 4},
)

PLS = MethodCard(
    api=1,
    name="pls",
    target="crossfit.subspace.pls:PLS",
    summary="Partial least squares: directions of largest covariance, at once or deflated",
    roles=("image", "text"),
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=2006,
    citation="""@inproceedings{rosipal2006overview,
  author    = {Roman Rosipal and Nicole Kr{\\"a}mer},
  title     = {Overview and Recent Advances in Partial Least Squares},
  booktitle = {Subspace, Latent Structure and Feature Selection},
  series    = {Lecture Notes in Computer Science},
  volume    = {3940},
  pages     = {34--51},
  publisher = {Springer},
  year      = {2006}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "mode": Choice("svd", "canonical"),
        "standardize": Choice(False, True),
    },
    test_params={"n_components": 8},
)

CFA = MethodCard(
    api=1,
    name="cfa",
    target="crossfit.subspace.cfa:CFA",
    summary="Cross-modal factor analysis: orthonormal maps that bring both views close",
    roles=("image", "text"),
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=2003,
    citation="""@inproceedings{li2003multimedia,
  author    = {Dongge Li and Nevenka Dimitrova and Mingkun Li and Ishwar K. Sethi},
  title     = {Multimedia Content Processing through Cross-Modal Association},
  booktitle = {Proceedings of the 11th ACM International Conference on Multimedia},
  pages     = {604--611},
  publisher = {ACM},
  year      = {2003}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "center": Choice(True, False),
        "standardize": Choice(True, False),
    },
    test_params={"n_components": 8},
)

JFSSL = MethodCard(
    api=1,
    name="jfssl",
    target="crossfit.subspace.jfssl:JFSSL",
    summary="Label regression with joint feature selection and a graph over all views",
    extra_views=True,
    inputs=VECTORS,
    labels="single",
    year=2016,
    citation="""@article{wang2016joint,
  author  = {Kaiye Wang and Ran He and Liang Wang and Wei Wang and Tieniu Tan},
  title   = {Joint Feature Selection and Subspace Learning for Cross-Modal Retrieval},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume  = {38},
  number  = {10},
  pages   = {2010--2023},
  year    = {2016}
}""",
    search_space={
        "l1": Float(1e-3, 1e3, log=True),
        "l2": Float(1e-3, 10.0, log=True),
        "n_neighbors": Int(3, 50, log=True),
        "standardize": Choice(True, False),
    },
    test_params={"n_neighbors": 5},
)

JRL = MethodCard(
    api=1,
    name="jrl",
    target="crossfit.subspace.jrl:JRL",
    summary="Label regression, sparse and with graphs, compared by posteriors of neighbours",
    inputs=VECTORS,
    labels="single",
    year=2014,
    citation="""@article{zhai2014learning,
  author  = {Xiaohua Zhai and Yuxin Peng and Jianguo Xiao},
  title   = {Learning Cross-Media Joint Representation with Sparse and Semisupervised
             Regularization},
  journal = {IEEE Transactions on Circuits and Systems for Video Technology},
  volume  = {24},
  number  = {6},
  pages   = {965--978},
  year    = {2014}
}""",
    search_space={
        "gamma": Float(1e-2, 1e3, log=True),
        "sigma": Float(1e-2, 1e3, log=True),
        "n_neighbors": Int(10, 200, log=True),
        "measure": Choice("knn_posterior", "cosine"),
    },
    test_params={"gamma": 1.0, "sigma": 1.0, "n_neighbors": 10},
)

KCCA = MethodCard(
    api=1,
    name="kcca",
    target="crossfit.subspace.kcca:KCCA",
    summary="Kernel canonical correlation analysis, exact or on a Nyström basis",
    roles=("image", "text"),
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=2004,
    citation="""@article{hardoon2004canonical,
  author  = {David R. Hardoon and Sandor Szedmak and John Shawe-Taylor},
  title   = {Canonical Correlation Analysis: An Overview with Application to Learning Methods},
  journal = {Neural Computation},
  volume  = {16},
  number  = {12},
  pages   = {2639--2664},
  year    = {2004}
}""",
    search_space={
        "n_components": Int(2, 64, log=True),
        "kernel": Choice("rbf", "poly", "linear"),
        "reg": Each(("image", "text"), Float(0.01, 100.0, log=True)),
        "standardize": Choice(True, False),
    },
    test_params={"n_components": 8},
)

LCFS = MethodCard(
    api=1,
    name="lcfs",
    target="crossfit.subspace.lcfs:LCFS",
    summary="Coupled feature spaces: label regression with feature selection and a trace norm",
    inputs=VECTORS,
    labels="multi",
    year=2013,
    citation="""@inproceedings{wang2013learning,
  author    = {Kaiye Wang and Ran He and Wei Wang and Liang Wang and Tieniu Tan},
  title     = {Learning Coupled Feature Spaces for Cross-Modal Matching},
  booktitle = {ICCV},
  pages     = {2088--2095},
  year      = {2013}
}""",
    search_space={"l1": Float(1e-2, 1e3, log=True), "l2": Float(1e-5, 1.0, log=True)},
    test_params={"l1": 1.0},
)

LGCFL = MethodCard(
    api=1,
    name="lgcfl",
    target="crossfit.subspace.lgcfl:LGCFL",
    summary="Label regression with group sparsity (experimental: a guess at the published method)",
    inputs=VECTORS,
    labels="multi",
    year=2015,
    citation="""@article{kang2015learning,
  author  = {Cuicui Kang and Shiming Xiang and Shengcai Liao and Changsheng Xu and Chunhong Pan},
  title   = {Learning Consistent Feature Representation for Cross-Modal Multimedia Retrieval},
  journal = {IEEE Transactions on Multimedia},
  volume  = {17},
  number  = {3},
  pages   = {370--381},
  year    = {2015}
}""",
    search_space={
        "l1": Float(1e-2, 1e3, log=True),
        "l2": Float(1e-2, 1e3, log=True),
        "groups": Choice(None, 2, 8),
    },
    test_params={"l1": 2.0, "l2": 2.0},
)

_SHARMA = """@inproceedings{sharma2012generalized,
  author    = {Abhishek Sharma and Abhishek Kumar and Hal Daum{\\'e} III and David W. Jacobs},
  title     = {Generalized Multiview Analysis: A Discriminative Latent Space},
  booktitle = {CVPR},
  pages     = {2160--2167},
  year      = {2012}
}"""
_GMA_SPACE: Space = {
    "n_components": Int(2, 64, log=True),
    "alpha": Float(0.1, 1000.0, log=True),
    "reg": Float(1e-6, 1.0, log=True),
}

BLM = MethodCard(
    api=1,
    name="blm",
    target="crossfit.subspace.gma:BLM",
    summary="Bilinear model: joint principal components of both views, coupled by the pairs",
    inputs=VECTORS,
    year=2012,
    citation=_SHARMA,
    search_space=_GMA_SPACE,
    test_params={"n_components": 6},
)

GMLDA = MethodCard(
    api=1,
    name="gmlda",
    target="crossfit.subspace.gma:GMLDA",
    summary="Generalised multiview linear discriminant analysis",
    inputs=VECTORS,
    labels="single",
    year=2012,
    citation=_SHARMA,
    search_space={**_GMA_SPACE, "align": Choice("pairs", "means")},
    test_params={"n_components": 4},
)

GMMFA = MethodCard(
    api=1,
    name="gmmfa",
    target="crossfit.subspace.gma:GMMFA",
    summary="Generalised multiview marginal Fisher analysis",
    inputs=VECTORS,
    labels="single",
    year=2012,
    citation=_SHARMA,
    search_space={
        **_GMA_SPACE,
        "n_within": Int(5, 100, log=True),
        "n_between": Int(50, 2000, log=True),
    },
    test_params={"n_components": 4, "n_within": 8, "n_between": 60},
)

MLCCA = MethodCard(
    api=1,
    name="ml-cca",
    target="crossfit.subspace.mlcca:MLCCA",
    summary="Multi-label CCA: every pair of items, weighted by the likeness of their labels",
    inputs=VECTORS,
    labels="multi",
    year=2015,
    citation="""@inproceedings{ranjan2015multilabel,
  author    = {Viresh Ranjan and Nikhil Rasiwasia and C. V. Jawahar},
  title     = {Multi-Label Cross-Modal Retrieval},
  booktitle = {International Conference on Computer Vision},
  pages     = {4094--4102},
  year      = {2015}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "label_similarity": Choice("exponential", "cosine"),
        "sigma": Float(0.1, 10.0, log=True, when={"label_similarity": "exponential"}),
        "reg": Float(1e-4, 10.0, log=True),
        "standardize": Choice(True, False),
    },
    test_params={"n_components": 4},
)

CCA3V = MethodCard(
    api=1,
    name="cca-3v",
    target="crossfit.subspace.cca3v:CCA3V",
    summary="Three-view CCA: labels, tags or clusters of tags as the third view",
    extra_views=True,
    inputs=VECTORS,
    labels="optional",
    year=2014,
    citation="""@article{gong2014multi,
  author  = {Yunchao Gong and Qifa Ke and Michael Isard and Svetlana Lazebnik},
  title   = {A Multi-View Embedding Space for Modeling Internet Images, Tags, and Their Semantics},
  journal = {International Journal of Computer Vision},
  volume  = {106},
  number  = {2},
  pages   = {210--233},
  year    = {2014}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "reg": Float(1e-4, 10.0, log=True),
        "power": Choice(0.0, 1.0, 2.0, 4.0),
    },
    test_params={"n_components": 6},
)

GCCA = MethodCard(
    api=1,
    name="gcca",
    target="crossfit.subspace.gcca:GCCA",
    summary="Generalised CCA (MAXVAR): one representation that every view predicts",
    extra_views=True,
    missing_views=True,
    inputs=VECTORS,
    year=1968,
    citation="""@inproceedings{carroll1968generalization,
  author    = {J. Douglas Carroll},
  title     = {Generalization of Canonical Correlation Analysis to Three or More Sets of Variables},
  booktitle = {Proceedings of the 76th Annual Convention of the American Psychological Association},
  pages     = {227--228},
  year      = {1968}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "reg": Each(("image", "text"), Float(1e-4, 10.0, log=True)),
        "power": Choice(0.0, 1.0, 2.0, 4.0),
    },
    test_params={"n_components": 4},
)

TCCA = MethodCard(
    api=1,
    name="tcca",
    target="crossfit.subspace.tcca:TCCA",
    summary="Tensor CCA: the leading terms of the moment of all views at once",
    extra_views=True,
    inputs=VECTORS,
    year=2015,
    citation="""@article{luo2015tensor,
  author  = {Yong Luo and Dacheng Tao and Kotagiri Ramamohanarao and Chao Xu and Yonggang Wen},
  title   = {Tensor Canonical Correlation Analysis for Multi-View Dimension Reduction},
  journal = {IEEE Transactions on Knowledge and Data Engineering},
  volume  = {27},
  number  = {11},
  pages   = {3111--3124},
  year    = {2015}
}""",
    search_space={
        "n_components": Int(2, 64, log=True),
        "reg": Each(("image", "text"), Float(1e-4, 10.0, log=True)),
        "power": Choice(0.0, 1.0, 2.0),
    },
    test_params={"n_components": 4},
)

SPARSE_CCA = MethodCard(
    api=1,
    name="sparse-cca",
    target="crossfit.subspace.sparse_cca:SparseCCA",
    summary="Sparse CCA by penalised matrix decomposition: components of a few features",
    extra_views=True,
    inputs=VECTORS,
    year=2009,
    citation="""@article{witten2009penalized,
  author  = {Daniela M. Witten and Robert Tibshirani and Trevor Hastie},
  title   = {A Penalized Matrix Decomposition, with Applications to Sparse Principal Components and
             Canonical Correlation Analysis},
  journal = {Biostatistics},
  volume  = {10},
  number  = {3},
  pages   = {515--534},
  year    = {2009}
}""",
    search_space={
        "n_components": Int(2, 64, log=True),
        "l1": Each(("image", "text"), Float(0.05, 1.0, log=True)),
        "power": Choice(0.0, 0.5, 1.0),
    },
    test_params={"n_components": 4},
)

MACC = MethodCard(
    api=1,
    name="macc",
    target="crossfit.subspace.macc:MACC",
    summary="Experimental: kernel CCA, quantised by a codebook, completed by neighbours",
    inputs=VECTORS,
    year=2016,
    citation="""@inproceedings{tran2016aggregating,
  author    = {Thi Quynh Nhi Tran and Herv{\\'e} {Le Borgne} and Michel Crucianu},
  title     = {Aggregating Image and Text Quantized Correlated Components},
  booktitle = {Computer Vision and Pattern Recognition},
  pages     = {2046--2054},
  year      = {2016}
}""",
    search_space={
        "n_components": Int(2, 128, log=True),
        "kernel": Choice("rbf", "linear"),
        "reg": Float(0.1, 100.0, log=True),
        "n_codewords": Int(8, 64, log=True),
        "n_neighbors": Int(1, 50, log=True),
    },
    test_params={"n_components": 6, "kernel": "linear", "n_codewords": 8},
)

S2UPG = MethodCard(
    api=1,
    name="s2upg",
    target="crossfit.subspace.s2upg:S2UPG",
    summary="Experimental: sparse label regression with one hypergraph over items and patches",
    extra_views=True,
    inputs={"image": ("vectors", "channels"), "text": ("vectors", "channels")},
    labels="single",
    year=2016,
    citation="""@article{peng2016semi,
  author  = {Yuxin Peng and Xiaohua Zhai and Yunzhen Zhao and Xin Huang},
  title   = {Semi-Supervised Cross-Media Feature Learning with Unified Patch Graph Regularization},
  journal = {IEEE Transactions on Circuits and Systems for Video Technology},
  volume  = {26},
  number  = {3},
  pages   = {583--596},
  year    = {2016}
}""",
    search_space={
        "l1": Float(1e-3, 1e3, log=True),
        "g": Float(1e-3, 1e2, log=True),
        "n_neighbors": Int(3, 50, log=True),
        "measure": Choice("knn_posterior", "cosine"),
        "n_votes": Int(10, 200, log=True),
    },
    test_params={"n_neighbors": 5, "n_votes": 10},
    make_inputs="crossfit.testing.planted:planted_patches",
)

_KLEIN = """@inproceedings{klein2015fisher,
  author    = {Benjamin Klein and Guy Lev and Gil Sadeh and Lior Wolf},
  title     = {Associating Neural Word Embeddings with Deep Image Representations using
               {F}isher Vectors},
  booktitle = {CVPR},
  pages     = {4437--4446},
  year      = {2015}
}"""
_FISHER_INPUTS = {"image": ("vectors",), "text": ("strings", "sequence")}
_FISHER_SPACE: Space = {
    "mixture_size": Int(1, 30, log=True),
    "ica": Choice(True, False),
    "reg": Each(("image", "text"), Float(1e-5, 1.0, log=True)),
    "power": Choice(0.0, 1.0, 4.0),
}

GMMHGLMMCCA = MethodCard(
    api=1,
    name="gmm-hglmm-cca",
    target="crossfit.subspace.hglmm:GMMHGLMMCCA",
    summary="CCA of pictures with Fisher vectors of words, Gaussian and hybrid mixtures",
    inputs=_FISHER_INPUTS,
    year=2015,
    citation=_KLEIN,
    search_space=_FISHER_SPACE,
    test_params={"mixture_size": 2},
)

HGLMMCCA = MethodCard(
    api=1,
    name="hglmm-cca",
    target="crossfit.subspace.hglmm:HGLMMCCA",
    summary="CCA of pictures with Fisher vectors of words under a Gaussian-Laplacian mixture",
    inputs=_FISHER_INPUTS,
    year=2015,
    citation=_KLEIN,
    search_space=_FISHER_SPACE,
    test_params={"mixture_size": 2},
)

IDENTITY = MethodCard(
    api=1,
    name="identity",
    target="crossfit.subspace.identity:Identity",
    summary="Features that share a space already, compared by their cosine",
    inputs=VECTORS,
    extra_views=True,
    labels="none",
    kind="embedding",
    year=2022,
    citation="""@inproceedings{liang2022mind,
  author    = {Weixin Liang and Yuhui Zhang and Yongchan Kwon and Serena Yeung and James Zou},
  title     = {Mind the Gap: Understanding the Modality Gap in Multi-Modal Contrastive
               Representation Learning},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}""",
    search_space={"center": Choice(True, False)},
    make_inputs="crossfit.testing.planted:planted_aligned",
)

PROCRUSTES = MethodCard(
    api=1,
    name="procrustes",
    target="crossfit.subspace.procrustes:Procrustes",
    summary="A rotation of the principal components of one view onto those of the other",
    roles=("image", "text"),
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=1966,
    citation="""@article{schonemann1966generalized,
  author  = {Peter H. Sch{\\"o}nemann},
  title   = {A Generalized Solution of the Orthogonal {Procrustes} Problem},
  journal = {Psychometrika},
  volume  = {31},
  number  = {1},
  pages   = {1--10},
  year    = {1966}
}""",
    search_space={"n_components": Int(2, 512, log=True)},
    test_params={"n_components": 8},
)

RIDGE_MAP = MethodCard(
    api=1,
    name="ridge-map",
    target="crossfit.subspace.ridge_map:RidgeMap",
    summary="Ridge regression of one view on the other, in one direction or both",
    roles=("image", "text"),
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=1970,
    citation="""@article{hoerl1970ridge,
  author  = {Arthur E. Hoerl and Robert W. Kennard},
  title   = {Ridge Regression: Biased Estimation for Nonorthogonal Problems},
  journal = {Technometrics},
  volume  = {12},
  number  = {1},
  pages   = {55--67},
  year    = {1970}
}""",
    search_space={
        "direction": Choice("both", "forward", "backward"),
        "reg": Each(("image", "text"), Float(1e-3, 100.0, log=True)),
    },
)

REDUCED_RANK = MethodCard(
    api=1,
    name="reduced-rank",
    target="crossfit.subspace.reduced_rank:ReducedRank",
    summary="Regression of one view on the other by a map of low rank",
    roles=("image", "text"),
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=1975,
    citation="""@article{izenman1975reduced,
  author  = {Alan Julian Izenman},
  title   = {Reduced-Rank Regression for the Multivariate Linear Model},
  journal = {Journal of Multivariate Analysis},
  volume  = {5},
  number  = {2},
  pages   = {248--264},
  year    = {1975}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "direction": Choice("both", "forward", "backward"),
        "reg": Each(("image", "text"), Float(1e-3, 100.0, log=True)),
    },
    test_params={"n_components": 6},
)

CSA = MethodCard(
    api=1,
    name="csa",
    target="crossfit.subspace.csa:CSA",
    summary="Cosine of canonical variates, weighted by their correlations",
    roles=("image", "text"),
    extra_views=True,
    missing_views=True,
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=2025,
    citation="""@inproceedings{li2025csa,
  author    = {Po-han Li and Sandeep P. Chinchali and Ufuk Topcu},
  title     = {{CSA}: Data-efficient Mapping of Unimodal Features to Multimodal Features},
  booktitle = {International Conference on Learning Representations},
  year      = {2025}
}""",
    search_space={
        "n_components": Int(2, 256, log=True),
        "reg": Each(("image", "text"), Float(1e-4, 10.0, log=True)),
    },
    test_params={"n_components": 4},
)

ASIF = MethodCard(
    api=1,
    name="asif",
    target="crossfit.subspace.asif:ASIF",
    summary="Similarities to the training pairs as the common space, without training",
    roles=("image", "text"),
    extra_views=True,
    inputs=VECTORS,
    labels="none",
    kind="embedding",
    year=2023,
    citation="""@inproceedings{norelli2023asif,
  author    = {Antonio Norelli and Marco Fumero and Valentino Maiorca and Luca Moschella and
               Emanuele Rodol{\\`a} and Francesco Locatello},
  title     = {{ASIF}: Coupled Data Turns Unimodal Models to Multimodal without Training},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023}
}""",
    search_space={"n_neighbors": Int(10, 1000, log=True), "power": Float(1.0, 16.0, log=True)},
    test_params={"n_neighbors": 10},
)
