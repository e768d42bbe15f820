"""A stand-in for the Upstage OCR API: implements its contract over HTTP and really recognises text.

It is for development and tests on one machine, and contains no code of the vendor. It has two faces (setting `face`):
the default follows the source documents of this project, the other one was recorded from the live API. Each behaviour
is marked with its source: **S** the source documents · **D** the vendor's documentation · **R** recorded from the live
API · **C** seen in other clients · **?** not published, so it is a guess, and clients must cope with every plausible
alternative. Most guesses can be changed by a setting (`settings.py`), and faults are injected by rules (`faults.py`).

The calls, both faces:

- sync, async, status and list under `/v1/document-digitization`, `Bearer` key, fields `document`, `model` and `schema`
  (S); other fields are refused (C), unless `extra_fields` is "ignore" for clients of Document Parse;
- any model whose name begins with `ocr` (S, C); `ocr` is an alias, and answers name the snapshot (S);
- 100 pages sync and 1,000 async, more answer 413 (S, D); older versions silently recognise only the first ones (C:
  `over_page_limit`);
- ten pages a batch, states and fields of the status answer (D); `batches` is null until the work starts (?:
  `unfinished_batches`), and a batch without a result has `download_url: ""` (?);
- every status answer contains fresh URLs that are valid for 15 minutes, then 403; results are kept for 30 days (S, C),
  then the request is forgotten, 404 (?);
- a file name of more than 900 bytes, or one that contradicts the content, leaves its request in `started` (C; always
  here, where the live API only may);
- two error bodies (D, R; which status codes use which is a guess: `nested_errors`); type, code and message of 400 for a
  model, 401, 403 without credit, 413 for pages and 429 (R, C); other messages and codes (?);
- rate-limit headers with every answer (D), with the vendor's names and UNIX times (C); the recorded limit is 300 pages
  a minute (R), and the limit here is far higher, so that nobody waits; 429 only with `keep_rates`, or from a rule.

The documented face: `api`, `model`, `pages[].words[].bounding_box` in ratios, `usage.pages` (S); words are numbered
over the whole answer (?, as recorded for the other face).

The recorded face: `apiVersion`, `pages[].words[].boundingBox` in pixels, `metadata`, `numBilledPages` (D, R); words are
numbered over the whole answer; its confidence is that of the least certain page, that of a page is the mean of its
words; its text is that of all pages without separators, and each line except the last ends with a space; `stored` is
false; keys are in alphabetical order; rendered PDF pages are 0 or 2 pixels wider, and 1 higher, than at exactly 150 DPI
(all R). Words that contain a space (R) are not generated.

Guesses beyond those (?):

- a request with a failed batch ends `completed` (`request_status_on_failed_batch`), the pages of that batch are billed
  all the same, and `completed_pages` does not count them;
- `pages[].id` restarts at 0 in every batch (`page_ids`), and `metadata.pages[].page` at 1;
- a retried batch is listed under its own id first, and under a new one at the end;
- a request is billed when it is accepted, also when a sync request then times out (504) or turns out to be damaged
  (422), and a refused one costs nothing;
- a document that exceeds the remaining credit is refused (403); accepted work continues even without credit;
- the order of the checks: key, form, model, bytes, format, damage, pages, pixels, credit;
- an encrypted PDF or office document counts as corrupted (422), an empty file as a bad request (400), too many pixels
  as 413, and the office formats before DOCX, PPTX and XLSX, and those with macros, are foreign (415);
- how office documents fall into pages: a slide each, a sheet each (45 rows a page), and where the document breaks its
  pages or 45 lines are full (`office.py`, `layout.py`); every image in a HEIC file is a page;
- what a refused asynchronous submit looks like (`refuse_async`, `refuse_async_status`), and that the key, the form and
  the model are checked first;
- everything about `schema`: that both values are accepted in both modes, and that the answers look as documented by
  CLOVA OCR and Google Vision, without an envelope of the API. In particular: that Google's pages are separate
  `responses` (`google_form`), in pixels, and that a page without text has only its `context`; that `pageIndex` and
  `pageNumber` are numbered according to `page_ids`; that a page is one block with one paragraph; that CLOVA's
  `requestId` and `name` are the request's id and file name, and `timestamp` is when it was accepted (`schemas.py`);
- MB means 1024 * 1024 bytes;
- the list of requests holds asynchronous ones only, newest first, on one page;
- a 200 is the only good answer, `request_id` is a UUID (`request_ids`), polling is free and counts as a request;
- `mimeType` is always `multipart/form-data`, and a page without text has confidence 0.

Known gaps: only the text of office documents is drawn, in one size and with a font that has only Latin letters; images
are not rotated according to their EXIF data.
"""
