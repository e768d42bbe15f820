# The cluster, and definitions shared by the other files.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  ecs_arn = "arn:${data.aws_partition.current.partition}:ecs:${var.region}:${local.account}"

  # The tasks of the worker and of the flow runs, in this cluster only.
  cluster_tasks = "${local.ecs_arn}:task/${aws_ecs_cluster.this.name}/*"

  container = "prefect"

  # The worker passes PREFECT_API_URL to the flow runs itself, and ECS rejects a name that is set twice.
  credential_secrets = var.prefect_credential == "none" ? [] : [{
    name      = var.prefect_credential
    valueFrom = "${aws_secretsmanager_secret.prefect.arn}:${var.prefect_credential}::"
  }]
}

resource "aws_ecs_cluster" "this" {
  name = var.name
}

resource "aws_cloudwatch_log_group" "runs" {
  name              = "/${var.name}/runs"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "worker" {
  name              = "/${var.name}/worker"
  retention_in_days = var.log_retention_days
}
