output "documents" {
  description = "The policies of the flow runs, by name."
  value       = { for name, document in local.documents : name => document if document != null }
}

output "source_bucket" {
  description = "Bucket of the documents."
  value       = local.parts.source.bucket
}

output "source_bucket_arn" {
  description = "ARN of the bucket of the documents."
  value       = local.buckets.source
}

output "source_prefix" {
  description = "Prefix of the documents: empty, or ending with a slash."
  value       = local.folders.source
}

output "destination_bucket" {
  description = "Bucket of the results."
  value       = local.parts.destination.bucket
}

output "destination_prefix" {
  description = "Prefix of the results: empty, or ending with a slash."
  value       = local.folders.destination
}
