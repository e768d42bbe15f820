"""A stand-in for the Upstage OCR API: speaks its contract over HTTP and really recognises text.

For development and tests on one machine; nothing here is the vendor's code. What the vendor publishes is
followed as it stands. Where nobody has published an answer, the stand-in guesses, and most guesses can be
turned round by a setting (`settings.py`), because a client has to bear every plausible answer. It guesses:

- that `batches` is null until the work starts (setting `unfinished_batches`), and that a batch without a
  result carries `download_url: ""`;
- that a request with a failed batch ends `completed` (setting `request_status_on_failed_batch`), that the
  pages of that batch are billed all the same, and that `completed_pages` does not count them;
- that `pages[].id` restarts at 0 in every batch (setting `page_ids`), and `metadata.pages[].page` at 1;
- how a retried batch stands in the list: the first try under its own id, the second under a new one at the
  end;
- that a request is billed when it is accepted, also when a sync request then times out (504) or turns out
  to be damaged (422), and that a refused one costs nothing;
- that credit is refused (403) to a document that is larger than what is left, and that no credit stops work
  that was accepted;
- the order of the checks (key, form, model, bytes, format, damage, pages, pixels, credit) and all messages
  but `invalid model name`; which codes use which of the two error bodies (setting `nested_errors`);
- that an encrypted PDF or office document counts as corrupted (422), an empty file as a bad request (400),
  too many pixels as 413, and that the office formats before DOCX, PPTX and XLSX, and those with macros, are
  foreign (415);
- how office documents fall into pages: a slide each, a sheet each (45 rows a page), and where the document
  breaks its pages or 45 lines are full (`office.py`, `layout.py`); that every image in a HEIC file is a page;
- what a refused asynchronous submit looks like (settings `refuse_async`, `refuse_async_status`), and that the
  key, the form and the model are looked at before;
- everything about `schema`: that both values are taken in both modes, and that the answers look as CLOVA OCR
  and Google Vision document their own, with nothing of the API's around them. In particular: that Google's
  pages stand one by one under `responses` (setting `google_form`), in pixels, and that one without text has
  nothing but its `context`; that `pageIndex` and `pageNumber` count as `page_ids` says; that a page is one
  block with one paragraph; that CLOVA's `requestId` and `name` are the request's id and file name, and
  `timestamp` is when it was accepted (`schemas.py`);
- that MB means 1024 * 1024 bytes, and that a request is forgotten (404) when its results are 30 days old;
- that the list of requests holds asynchronous ones only, newest first, on one page;
- that polling is free, and that no call is ever refused for its rate: 429 comes from a fault rule
  (`faults.py`);
- that `mimeType` is always `multipart/form-data`, and that a page without text has confidence 0.

Known gaps: of office documents only the text is drawn, in one size and with a font that has Latin letters
only; an image is not turned by its EXIF data; and a file name that is too long or contradicts the content
always leaves its request in `started`, where the real service only may.
"""
