"""Tests of the steps, over a real S3 server and the API's stand-in."""
