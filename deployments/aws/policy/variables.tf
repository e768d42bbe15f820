# The root module checks these; here they are only used.

variable "partition" {
  description = "The AWS partition: aws, aws-cn or aws-us-gov."
  type        = string
}

variable "source_address" {
  description = "Where the documents lie, as s3://bucket/prefix."
  type        = string
}

variable "destination_address" {
  description = "Where results and ledger go, as s3://bucket/prefix."
  type        = string
}

variable "lists_address" {
  description = "The folder that manifests and inventories lie in, as s3://bucket/prefix; null for none."
  type        = string
  default     = null
}

variable "source_kms_key_arn" {
  description = "The KMS key of the source's bucket; null for none."
  type        = string
  default     = null
}

variable "destination_kms_key_arn" {
  description = "The KMS key of the destination's bucket; null for none."
  type        = string
  default     = null
}
