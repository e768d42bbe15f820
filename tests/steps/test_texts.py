"""Plain texts that were not asked for at first are written later, without paying again."""

from tasks.steps.submit import submit_document
from tasks.steps.texts import write_missing_texts
from tests.sample_documents import text_pdf
from tests.steps.conftest import World


def recognised(world: World, key: str, *texts: str, text: bool = False) -> None:
    document, context = world.put(text_pdf(texts), key), world.context(text=text)
    submit_document(context, document)
    assert world.finish(context, document)[-1].kind == "done"


def read(world: World, key: str) -> str:
    return world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read().decode()


def texts(world: World) -> list[str]:
    return [key for key in world.listing("out/") if key.endswith(".txt")]


def test_texts_are_written_beside_results_that_have_none_and_nothing_is_paid(world: World) -> None:
    recognised(world, "in/a.pdf", "one", "two")
    recognised(world, "in/b.pdf", "three", text=True)
    recognised(world, "in/b.pdf.x", "four")
    world.s3.put_object(Bucket=world.bucket, Key="out/strange.ocr.json", Body=b"{}")
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.zzz", Body=b"between")
    bill, context = world.bill(), world.context(text=True)
    assert write_missing_texts(context) == 2
    assert texts(world) == ["out/a.pdf.ocr.txt", "out/b.pdf.ocr.txt", "out/b.pdf.x.ocr.txt"]
    assert read(world, "out/a.pdf.ocr.txt") == "one\ftwo"
    assert write_missing_texts(context) == 0
    assert world.bill() == bill


def test_texts_are_of_the_models_own_results(world: World) -> None:
    recognised(world, "in/a.pdf", "one")
    assert write_missing_texts(world.context(text=True, schema="clova")) == 0
    assert texts(world) == []


def test_the_text_of_an_older_version_does_not_stay_beside_the_result_of_a_newer_one(world: World) -> None:
    recognised(world, "in/a.pdf", "the old words", text=True)
    recognised(world, "in/a.pdf", "the new words")
    assert read(world, "out/a.pdf.ocr.txt") == "the new words"
