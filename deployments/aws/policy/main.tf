# The policies of the flow runs. A module without resources or providers, so that it can be rendered anywhere.

locals {
  # As the program reads an address: slashes at both ends of the prefix do not count.
  addresses = {
    source      = var.source_address
    destination = var.destination_address
    lists       = coalesce(var.lists_address, var.source_address)
  }
  parts   = { for name, address in local.addresses : name => regex("^s3://(?P<bucket>[^/]+)/?(?P<rest>.*)$", address) }
  buckets = { for name, part in local.parts : name => "arn:${var.partition}:s3:::${part.bucket}" }
  folders = { for name, part in local.parts : name => trim(part.rest, "/") == "" ? "" : "${trim(part.rest, "/")}/" }

  # An address may name a single object, and the program looks whether it does.
  itself  = { for name, folder in local.folders : name => folder == "" ? [] : [trimsuffix(folder, "/")] }
  listed  = { for name, folder in local.folders : name => concat(["${folder}*"], local.itself[name]) }
  objects = { for name, patterns in local.listed : name => [for pattern in patterns : "${local.buckets[name]}/${pattern}"] }

  documents = {
    documents = templatefile("${path.module}/documents.json.tftpl", {
      source_bucket       = jsonencode(local.buckets.source)
      source_listed       = jsonencode(local.listed.source)
      source_objects      = jsonencode(local.objects.source)
      destination_bucket  = jsonencode(local.buckets.destination)
      destination_listed  = jsonencode("${local.folders.destination}*")
      destination_objects = jsonencode("${local.buckets.destination}/${local.folders.destination}*")
      ledger_objects      = jsonencode("${local.buckets.destination}/${local.folders.destination}_jobs/*")
    })
    lists           = var.lists_address == null ? null : templatefile("${path.module}/lists.json.tftpl", { objects = jsonencode("${local.buckets.lists}/${local.folders.lists}*") })
    source-key      = var.source_kms_key_arn == null ? null : templatefile("${path.module}/source-key.json.tftpl", { key = jsonencode(var.source_kms_key_arn) })
    destination-key = var.destination_kms_key_arn == null ? null : templatefile("${path.module}/destination-key.json.tftpl", { key = jsonencode(var.destination_kms_key_arn) })
  }
}
