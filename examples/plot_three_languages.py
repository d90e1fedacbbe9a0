"""
Pictures, English and German
============================

Emoji have English keywords. With a table of German words for some of them, each emoji has three
views: a picture, English words and German words. Three methods map all three views to one space,
and every direction is evaluated: pictures for a German query, German for a picture, translation.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import Views, ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA3V, GCCA, TCCA

TABLE = """
face=Gesicht female=weiblich male=männlich women=Frauen men=Männer human=Mensch sign=Schild
woman=Frau man=Mann sports=Sport vehicle=Fahrzeug weather=Wetter plant=Pflanze love=Liebe
hand=Hand clothing=Kleidung child=Kind tool=Werkzeug japanese=japanisch photo=Foto black=schwarz
time=Zeit summer=Sommer home=Heim gesture=Geste music=Musik smile=Lächeln celebration=Feier
space=Weltraum two=zwei direction=Richtung red=rot affection=Zuneigung zodiac=Tierkreis fruit=Obst
shape=Form eye=Auge vegetable=Gemüse late=spät early=früh game=Spiel boy=Junge pointing=zeigend
happy=glücklich bird=Vogel girl=Mädchen chinese=chinesisch building=Gebäude white=weiß night=Nacht
circle=Kreis person=Person children=Kinder fashion=Mode arrow=Pfeil heart=Herz
stationery=Schreibwaren pride=Stolz spring=Frühling religion=Religion ball=Ball exercise=Übung
fairy=Fee sad=traurig sleep=Schlaf beach=Strand adult=erwachsen sea=Meer business=Geschäft
mother=Mutter large=groß open=offen money=Geld fingers=Finger good=gut father=Vater
forbidden=verboten parents=Eltern water=Wasser eyes=Augen tale=Märchen no=nein magic=Magie
words=Wörter dessert=Nachtisch sweet=süß clock=Uhr romance=Romantik planet=Planet evening=Abend
technology=Technik mouth=Mund hot=heiß cold=kalt party=Fest play=spielen fly=fliegen ocean=Ozean
paper=Papier doctor=Arzt school=Schule law=Recht marriage=Ehe letter=Brief numbers=Zahlen
rock=Stein left=links green=grün insect=Insekt flower=Blume beverage=Getränk triangle=Dreieck
alphabet=Alphabet smiling=lächelnd head=Kopf upset=verärgert sick=krank computer=Rechner mail=Post
small=klein heavy=schwer sound=Klang yellow=gelb blind=blind couple=Paar breakfast=Frühstück
round=rund ship=Schiff instrument=Instrument documents=Dokumente hands=Hände one=eins
medicine=Medizin sun=Sonne up=hoch evil=böse note=Note pink=rosa cooking=Kochen son=Sohn
daughter=Tochter pet=Haustier cats=Katzen car=Auto study=Studium bank=Bank tools=Werkzeuge
surprise=Überraschung blue=blau danger=Gefahr monster=Monster star=Stern stop=halt luck=Glück
education=Bildung winter=Winter circus=Zirkus wedding=Hochzeit train=Zug bike=Rad stars=Sterne
closed=geschlossen silence=Stille tired=müde hat=Hut bad=schlecht box=Kiste fast=schnell high=hoch
baby=Säugling old=alt art=Kunst festival=Festival stick=Stock wild=wild fish=Fisch snack=Imbiss
alcohol=Alkohol shopping=Einkauf bicycle=Fahrrad sky=Himmel card=Karte swim=schwimmen
phone=Telefon button=Knopf joy=Freude cry=weinen kiss=Kuss secret=Geheimnis steam=Dampf nose=Nase
dead=tot creature=Wesen right=rechts health=Gesundheit plane=Flugzeug build=bauen race=Rennen
snow=Schnee date=Datum milk=Milch chicken=Huhn light=Licht bread=Brot meat=Fleisch cut=schneiden
weapon=Waffe security=Sicherheit lock=Schloss bathroom=Bad tears=Tränen quiet=leise
dizzy=schwindlig angry=wütend gold=Gold cloud=Wolke yes=ja write=schreiben ear=Ohr hair=Haar
hospital=Krankenhaus learn=lernen worker=Arbeiter kitchen=Küche christmas=Weihnachten blood=Blut
move=bewegen suit=Anzug toy=Spielzeug flight=Flug monkey=Affe bakery=Bäckerei world=Welt
hotel=Hotel city=Stadt railway=Eisenbahn electric=elektrisch warning=Warnung boat=Boot fire=Feuer
award=Preis fun=Spaß read=lesen library=Bücherei laugh=lachen tongue=Zunge lips=Lippen
scared=ängstlich ill=krank birthday=Geburtstag cool=kühl glasses=Brille death=Tod dark=dunkel
air=Luft power=Kraft ears=Ohren young=jung cook=Koch airplane=Flugzeug royal=königlich walk=gehen
dancer=Tänzer
"""
GERMAN = dict(pair.split("=") for pair in TABLE.split())


def in_german(keywords):
    """Return German words for the keywords that the table has."""
    return " ".join(GERMAN[word] for word in keywords.split(", ") if word in GERMAN)


def three_views(split):
    """Return the emoji that have two German words or more."""
    german = np.array([in_german(text) for text in split.views["text"]], dtype=object)
    rows = np.flatnonzero([text.count(" ") >= 1 for text in german])
    views = split.views[rows]
    return Views(image=views["image"], english=views["text"], german=german[rows])


emoji = load("emoji")
train, test = three_views(emoji["train"]), three_views(emoji["test"])
print(f"{len(train)} emoji to train on, {len(test)} to test on")

# %%
# Features of each view on its own: that *Katze* is *cat* is learned from the pairs.

words = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(100, random_state=0))
features = ViewTransformer(
    [("image", GridFeatures(cache=False)), ("english", words), ("german", words)]
)
features = Pipeline([("features", features)]).fit(train)
train, test = features.transform(train), features.transform(test)

# %%
# CCA3V takes clusters or labels as its third view by default; ``semantics=None`` is for three views
# of which none is a label.

methods = {"GCCA": GCCA(60, reg=3.0), "TCCA": TCCA(60, reg=3.0), "CCA3V": CCA3V(60, semantics=None)}
names = test.names
recall = np.full((3, 3, 3), np.nan)
for k, method in enumerate(methods.values()):
    method.fit(train)
    for i, query in enumerate(names):
        for j, gallery in enumerate(names):
            if query != gallery:
                scores = method.similarity(test, query=query, gallery=gallery)
                relevance = test.relevance(query, gallery)
                found = crossfit.evaluate(scores, relevance, "r@10", directions="forward", ci=None)
                recall[k, i, j] = found.mean("forward", "r@10")
print("R@10                " + "".join(f"{name:>8}" for name in methods))
for i, query in enumerate(names):
    for j, gallery in enumerate(names):
        if query != gallery:
            values = "".join(f"{value:8.2f}" for value in recall[:, i, j])
            print(f"{query:>8} to {gallery:8}" + values)

# %%
# Pictures are the hard view: between the languages nearly every emoji is found.

figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.2), layout="constrained", sharey=True)
for ax, name, values in zip(axes, methods, recall):
    heat = ax.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(values):
        if i != j:
            color = "white" if value > 0.5 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=color)
    ax.set_xticks(range(3), names)
    ax.set_yticks(range(3), names)
    ax.set(title=name, xlabel="gallery")
axes[0].set_ylabel("query")
figure.colorbar(heat, ax=axes, label=f"R@10 among {len(test)}", shrink=0.8)
plt.show()
