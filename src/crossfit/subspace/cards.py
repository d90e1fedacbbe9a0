"""Cards of the closed-form methods."""

from crossfit.cards import Choice, Each, Float, Int, MethodCard

VECTORS = {"image": ("vectors",), "text": ("vectors",)}

CCA = MethodCard(
    api=1,
    name="cca",
    target="crossfit.subspace.cca:CCA",
    summary="Canonical correlation analysis, regularised, two or more views",
    roles=("image", "text"),
    extra_views=True,
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
