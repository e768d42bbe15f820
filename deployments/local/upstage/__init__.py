"""A stand-in for the Upstage OCR API: speaks its contract over HTTP and really recognises text.

For development and tests on one machine; nothing here is the vendor's code. It has two faces (setting `face`): as the
source documents of this project say, which is the default, and as recorded from the live API. Each trait is marked:
**S** the source documents say so · **D** the vendor's documentation says so · **R** recorded from the live API · **C**
seen in other clients · **?** nobody has published it, so it is guessed, and a client has to bear every plausible
answer. Most guesses can be turned round by a setting (`settings.py`), and mishaps are made by rules (`faults.py`).

The calls, both faces:

- sync, async, status and list under `/v1/document-digitization`, `Bearer` key, fields `document`, `model` and `schema`
  (S); other fields are refused (C), unless `extra_fields` is "ignore" for clients of Document Parse;
- any model whose name begins with `ocr` (S, C); `ocr` is an alias, and answers name the snapshot (S);
- 100 pages sync and 1,000 async, more answer 413 (S, D); older versions recognise the first ones and say nothing (C:
  `over_page_limit`);
- ten pages a batch, states and fields of the status answer (D); `batches` is null until the work starts (?:
  `unfinished_batches`), and a batch without a result carries `download_url: ""` (?);
- every status answer mints fresh URLs that live 15 minutes; 403 after that; results live 30 days (S, C), then the
  request is forgotten, 404 (?);
- a file name of more than 900 bytes, or one that contradicts the content, leaves its request in `started` (C; always
  here, where the live API only may);
- two error bodies (D, R; which codes use which is a guess: `nested_errors`); type, code and message of 400 for a model,
  401, 403 without credit, 413 for pages and 429 (R, C); other messages and codes (?);
- rate-limit headers with every answer (D), in the vendor's names with UNIX times (C); the limit of pages is recorded as
  300 a minute (R), and far higher here, so that nobody waits; 429 only with `keep_rates`, or from a rule.

The documented face: `api`, `model`, `pages[].words[].bounding_box` in ratios, `usage.pages` (S); words count over the
whole answer (?, as they are recorded to in the other).

The recorded face: `apiVersion`, `pages[].words[].boundingBox` in pixels, `metadata`, `numBilledPages` (D, R); words
count over the whole answer; its confidence is that of the least certain page, a page's the mean of its words'; its text
is that of its pages with nothing between, and a space ends each line but the last; `stored` is false; keys are in
alphabetical order; pages drawn of PDF are 0 or 2 pixels wider, and 1 higher, than 150 DPI make them (all R). Words with
a space inside (R) do not come.

Guesses beyond those (?):

- a request with a failed batch ends `completed` (`request_status_on_failed_batch`), the pages of that batch are billed
  all the same, and `completed_pages` does not count them;
- `pages[].id` restarts at 0 in every batch (`page_ids`), and `metadata.pages[].page` at 1;
- a retried batch stands in the list under its own id first, and under a new one at the end;
- a request is billed when it is accepted, also when a sync request then times out (504) or turns out to be damaged
  (422), and a refused one costs nothing;
- credit is refused (403) to a document that is larger than what is left, and no credit stops work that was accepted;
- the order of the checks: key, form, model, bytes, format, damage, pages, pixels, credit;
- an encrypted PDF or office document counts as corrupted (422), an empty file as a bad request (400), too many pixels
  as 413, and the office formats before DOCX, PPTX and XLSX, and those with macros, are foreign (415);
- how office documents fall into pages: a slide each, a sheet each (45 rows a page), and where the document breaks its
  pages or 45 lines are full (`office.py`, `layout.py`); every image in a HEIC file is a page;
- what a refused asynchronous submit looks like (`refuse_async`, `refuse_async_status`), and that the key, the form and
  the model are looked at before;
- everything about `schema`: that both values are taken in both modes, and that the answers look as CLOVA OCR and
  Google Vision document their own, with nothing of the API's around them. In particular: that Google's pages stand one
  by one under `responses` (`google_form`), in pixels, and that one without text has nothing but its `context`; that
  `pageIndex` and `pageNumber` count as `page_ids` says; that a page is one block with one paragraph; that CLOVA's
  `requestId` and `name` are the request's id and file name, and `timestamp` is when it was accepted (`schemas.py`);
- MB means 1024 * 1024 bytes;
- the list of requests holds asynchronous ones only, newest first, on one page;
- a 200 is the only good answer, `request_id` is a UUID (`request_ids`), polling is free and counts as a request;
- `mimeType` is always `multipart/form-data`, and a page without text has confidence 0.

Known gaps: of office documents only the text is drawn, in one size and with a font that has Latin letters only; and an
image is not turned by its EXIF data.
"""
