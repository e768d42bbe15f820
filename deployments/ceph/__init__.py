"""A disposable Ceph cluster with an S3 gateway, for tests against an independent implementation of S3."""
