# Names and locations.

variable "region" {
  description = "AWS region of everything made here; the region of the buckets, too."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2,3}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region looks like eu-central-1."
  }
}

variable "name" {
  description = "What the names of everything made here begin with. Another name makes another installation beside it."
  type        = string
  default     = "bulk-ocr"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "Lower-case letters, digits and dashes, 3 to 32 characters, beginning with a letter."
  }
}

variable "tags" {
  description = "Tags for everything made here, beside Application."
  type        = map(string)
  default     = {}
}

# The documents.

variable "source_address" {
  description = "Where the documents lie, as s3://bucket/prefix. The flow runs may list and read that, and nothing beside it. The bucket is not made here."
  type        = string

  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^*?$]*)?$", var.source_address))
    error_message = "Write it as s3://bucket/prefix, without the characters * ? and $, which mean something else in a policy."
  }
}

variable "destination_address" {
  description = "Where results and ledger go, as s3://bucket/prefix. The flow runs may list, read and write that, and delete ledger records. The bucket is not made here."
  type        = string

  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^*?$]*)?$", var.destination_address))
    error_message = "Write it as s3://bucket/prefix, without the characters * ? and $, which mean something else in a policy."
  }
}

variable "lists_address" {
  description = "The folder that manifests and inventories (--manifest, --inventory) lie in, as s3://bucket/prefix, when that is outside the source; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.lists_address == null || can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^*?$]*)?$", var.lists_address))
    error_message = "Write it as s3://bucket/prefix, without the characters * ? and $, or leave it out."
  }
}

variable "source_kms_key_arn" {
  description = "The KMS key that the source's bucket is encrypted with; null when it is encrypted with S3's own keys."
  type        = string
  default     = null

  validation {
    condition     = var.source_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.source_kms_key_arn))
    error_message = "The ARN of a key, not of an alias."
  }
}

variable "destination_kms_key_arn" {
  description = "The KMS key that the destination's bucket is encrypted with; null when it is encrypted with S3's own keys."
  type        = string
  default     = null

  validation {
    condition     = var.destination_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.destination_kms_key_arn))
    error_message = "The ARN of a key, not of an alias."
  }
}

# The containers.

variable "image" {
  description = "Image of the flow runs, with bulk-ocr installed; best named by digest, so that a run is what was tested."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+[:@][^\\s/]+$", var.image))
    error_message = "Name a tag or a digest: without one, it is whatever was pushed last."
  }
}

variable "worker_image" {
  description = "Image of the Prefect worker, with prefect and prefect-aws installed."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+[:@][^\\s/]+$", var.worker_image))
    error_message = "Name a tag or a digest: without one, it is whatever was pushed last."
  }
}

variable "ecr_repository_arns" {
  description = "The ECR repositories that the two images come from; empty when they come from a public registry."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.ecr_repository_arns : can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*]+$", arn))])
    error_message = "ARNs of ECR repositories, without wildcards."
  }
}

variable "cpu_architecture" {
  description = "What both images are built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "X86_64 or ARM64."
  }
}

variable "run_cpu" {
  description = "CPU units of a flow run; 1024 are one vCPU. Fargate takes only some pairs with the memory."
  type        = number
  default     = 1024

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.run_cpu)
    error_message = "One of 256, 512, 1024, 2048, 4096, 8192, 16384."
  }
}

variable "run_memory" {
  description = "Memory of a flow run in MiB. Fargate takes only some pairs with the CPU; 1024 go with 2048 to 8192."
  type        = number
  default     = 2048

  validation {
    condition     = var.run_memory >= 512 && var.run_memory <= 122880 && floor(var.run_memory / 512) * 512 == var.run_memory
    error_message = "512 to 122880, in steps of 512."
  }
}

variable "run_storage_gib" {
  description = "Disk of a flow run in GiB, for the documents at work at one time: about three times their size for each of the workers of the run's options."
  type        = number
  default     = 21

  validation {
    condition     = var.run_storage_gib >= 21 && var.run_storage_gib <= 200
    error_message = "21 to 200, as Fargate has it."
  }
}

variable "run_environment" {
  description = "More environment variables for the flow runs, such as UPSTAGE_BASE_URL. No secrets: they are seen in the console and kept in Terraform's state."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.run_environment) : !can(regex("KEY|SECRET|TOKEN|PASSWORD|AUTH_STRING|^PREFECT_API_URL$", name))])
    error_message = "Keys and tokens belong into the two secrets, and Prefect's address comes from the worker."
  }
}

# Prefect.

variable "work_pool" {
  description = "Name of the Prefect work pool, of type ecs. The worker makes it when it is not there."
  type        = string
  default     = "bulk-ocr-ecs"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]*$", var.work_pool))
    error_message = "Letters, digits, dashes and underscores."
  }
}

variable "prefect_credential" {
  description = "What Prefect is told apart by: PREFECT_API_KEY (Prefect Cloud), PREFECT_API_AUTH_STRING (your own server with a password), or none."
  type        = string
  default     = "PREFECT_API_KEY"

  validation {
    condition     = contains(["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "none"], var.prefect_credential)
    error_message = "PREFECT_API_KEY, PREFECT_API_AUTH_STRING or none."
  }
}

variable "prefect_port" {
  description = "Port of Prefect's API: 443, or that of your own server."
  type        = number
  default     = 443

  validation {
    condition     = var.prefect_port >= 1 && var.prefect_port <= 65535
    error_message = "1 to 65535."
  }
}

variable "worker_count" {
  description = "How many Prefect workers run. One is enough: it only starts tasks. 0 stops everything new."
  type        = number
  default     = 1

  validation {
    condition     = contains([0, 1, 2, 3], var.worker_count)
    error_message = "0 to 3."
  }
}

# The network.

variable "vpc_id" {
  description = "The VPC to run in. It is not made here."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "A VPC's id looks like vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Subnets of that VPC to run in. They need a way to the Upstage API and to Prefect: a NAT gateway, or public addresses."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "At least one subnet; its id looks like subnet-0123456789abcdef0."
  }
}

variable "assign_public_ip" {
  description = "Whether tasks get public addresses: true only in public subnets without a NAT gateway."
  type        = bool
  default     = false
}

variable "create_endpoints" {
  description = "Whether to make VPC endpoints, so that what goes to AWS does not go through the NAT gateway. Their names are answered in the whole VPC; leave this off where it has them."
  type        = bool
  default     = false
}

variable "route_table_ids" {
  description = "Route tables of the subnets, for S3's gateway endpoint; only with create_endpoints."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.route_table_ids : can(regex("^rtb-[0-9a-f]+$", id))])
    error_message = "A route table's id looks like rtb-0123456789abcdef0."
  }
}

# Operations.

variable "create_events" {
  description = "Whether S3 tells a queue of each new document, for the flow listen. REPLACES the notifications that the source's bucket has: a bucket has one configuration for all of them."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the logs. Prefect has the flow runs' logs as well."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "One of the numbers of days that CloudWatch knows, such as 7, 30, 90 or 365."
  }
}

variable "secret_recovery_days" {
  description = "How long a deleted secret can be restored; its name is taken until then. 0 deletes at once."
  type        = number
  default     = 7

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30)
    error_message = "0, or 7 to 30."
  }
}
