#!/usr/bin/env python3
"""Writes tests/goldens/wan/prompts.json: prompts as diffusers' Wan pipeline cleans them before tokenization, with ftfy 6.3.1.

Needs neither torch nor transformers.
"""

import ast
import html
import importlib.util
import json
from pathlib import Path

import ftfy
import regex

OUT = Path(__file__).resolve().parents[2] / "tests/goldens/wan/prompts.json"

PROMPTS = {
    "spaces": "  a  fox\n\tand\u3000a tree ",
    "spaces that no-break": "a\u00a0fox\u2003in\u2009the\u202fsnow",
    "line ends": "one\r\ntwo\rthree\u2028four\u2029five\u0085six",
    "empty": "",
    "blank": " \n\t ",
    "plain": "AT&T & R&D",
    "emoji": "a 😀 cat 👩‍👩‍👧 and 🇫🇷",
    "entity": "salt &amp; pepper",
    "entity twice": "&amp;lt;b&amp;gt; &quot;x&quot; &#39;y&#x27;",
    "entity three times": "&amp;amp;amp;",
    "entity of a letter": "caf&eacute; &#x1F600; &#233;",
    "entity in capitals": "&EACUTE;COLE &NTILDE; &SZLIG; &LTX;",
    "entity beside a tag": "<b>salt &amp;amp;amp; pepper</b>",
    "entity after a tag": "<b>\n&EACUTE; &amp;amp;amp;",
    "entity without end": "&copy 2020, fish &amp chips, &notit, &notit; &lt5",
    "entity of a control": "a&#0;b&#8;c&#128;d&#xD800;e&#x110000;f&#xFDD0;g&#13;h&#99999999999;i",
    "entity of no name": "&nothing; &; &#; &#x; &#59;",
    "curly quotes": "the \u201cfox\u201d\u2019s den",
    "single quotes": "\u2018a\u2019 \u201ab\u201b \u02bcc",
    "double quotes": "\u201ea\u201c \u201fb\u201d \u00abc\u00bb",
    "wide letters": "ｗｉｄｅ　ＬＥＴＴＥＲＳ　１２３！？",
    "narrow kana": "ﾊﾝｶｸ ｶﾀｶﾅ ﾎﾟﾝ",
    "ligatures": "ﬁne ﬂowers, aﬃnity, ﬀ ﬅ ﬆ Ĳ ŉ ǆ",
    "letters that look like ligatures": "œuvre æsthetic ß",
    "composed": "cafe\u0301 n\u0303 a\u030a",
    "hangul": "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "compatible": "10³ µm ½ ① Å",
    "mojibake of quotes": "the fox\u00e2\u20ac\u2122s den, \u00e2\u20ac\u0153red\u00e2\u20ac\u009d",
    "mojibake twice": "cafÃƒÂ©",
    "mojibake that lost a byte": "the fox\u00e2\u20ac\ufffd s den",
    "mojibake that lost a space": "voilÃ  le renard, Ã s vezes",
    "mojibake of surrogates": "a fox \u00ed\u00a0\u00bd\u00ed\u00b8\u008d in snow \u00c3\u00a9",
    "mojibake in part": "naïve cafÃ© and “quotes”, лиса, Ã¼ber",
    "no mojibake": "IL Y MARQUÉ… Ü20, Nº 5, Ã",
    "controls of Latin-1": "a fox\u0092s \u0093den\u0094",
    "controls": "a\u0000b\u0007c\u001bd\u007fe",
    "invisible": "a\ufeffb\u200bc\u00add\u2060e\u200ef",
    "terminal": "a \u001b[31;1mred\u001b[0m fox \u001b[",
    "annotations": "a\ufffcb\ufff9c",
    "private": "a\ue000b",
}

# Each as it is, and as UTF-8 that was read in each encoding.
LANGUAGES = {
    "English": "“a fox” — it’s 4K…",
    "French": "Où ça ? Une forêt brûlée à l’aube",
    "German": "Das süße Mädchen, größer, Äpfel, Übermut",
    "Spanish": "¿Qué? ¡El niño, años!",
    "Polish": "żółw i łoś, gęślą jaźń",
    "Turkish": "güneşli gün, ığdır",
    "Lithuanian": "Lapė bėga per sniegą",
    "Greek": "Η αλεπού τρέχει",
    "Russian": "Лиса бежит по снегу",
    "Arabic": "ثعلب يركض",
    "Japanese": "雪の中を走る狐",
    "Vietnamese": "Cáo chạy trong tuyết",
    "signs": "😀 ❤ ✔",
}
ENCODINGS = ["latin-1", *(f"sloppy-windows-{n}" for n in (1252, 1251, 1250, 1253, 1254, 1257)), "iso-8859-2", "macroman", "cp437"]


def cleaning():
    """Returns `prompt_clean` of diffusers. Importing its module needs torch, so the function is taken from the file."""
    package = Path(importlib.util.find_spec("diffusers").origin).parent
    module = ast.parse((package / "pipelines/wan/pipeline_wan.py").read_text())
    wanted = ("basic_clean", "whitespace_clean", "prompt_clean")
    module.body = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    names = dict(ftfy=ftfy, html=html, re=regex, is_ftfy_available=lambda: True)
    exec(compile(module, "pipeline_wan.py", "exec"), names)
    return names["prompt_clean"]


def main():
    prompts = dict(PROMPTS)
    for language, text in LANGUAGES.items():
        prompts[language] = text
        for encoding in ENCODINGS:
            prompts[f"{language} as {encoding}"] = text.encode().decode(encoding)
    clean = cleaning()
    rows = [dict(name=name, prompt=prompt, clean=clean(prompt)) for name, prompt in prompts.items()]
    OUT.write_text(json.dumps(dict(ftfy=ftfy.__version__, rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
