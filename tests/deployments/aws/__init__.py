"""Running on AWS: the policies and the Terraform files."""
