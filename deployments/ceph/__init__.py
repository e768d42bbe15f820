"""A throw-away Ceph cluster with an S3 gateway, for testing against a store that others wrote."""
