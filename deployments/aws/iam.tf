# Three roles: for starting containers, for the worker, and for the flow runs.

data "aws_iam_policy_document" "tasks_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["${local.ecs_arn}:*"]
    }
  }
}

# The execution role: ECS uses it to start a container. The container itself never has it.

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.runs.arn}:*", "${aws_cloudwatch_log_group.worker.arn}:*"]
  }

  statement {
    sid       = "ReadTheTwoSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.upstage.arn, aws_secretsmanager_secret.prefect.arn]
  }

  dynamic "statement" {
    for_each = length(var.ecr_repository_arns) > 0 ? [1] : []

    content {
      sid       = "PullImages"
      actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = var.ecr_repository_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.ecr_repository_arns) > 0 ? [1] : []

    content {
      sid     = "LogInToEcr"
      actions = ["ecr:GetAuthorizationToken"]

      # The token is for the registry, not for a repository, so IAM accepts nothing narrower. It grants no image by itself.
      resources = ["*"]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start-containers"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# The worker's role: it runs one task definition in one cluster.

resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
}

data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "StartFlowRuns"
    actions   = ["ecs:RunTask"]
    resources = ["${aws_ecs_task_definition.run.arn_without_revision}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    sid       = "FollowAndStopThem"
    actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
    resources = [local.cluster_tasks]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    sid       = "TagThemWhenStarted"
    actions   = ["ecs:TagResource"]
    resources = [local.cluster_tasks]

    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask"]
    }
  }

  statement {
    sid       = "PassTheirTwoRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.run.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid     = "LookUp"
    actions = ["ecs:DescribeTaskDefinition", "ec2:DescribeVpcs", "ec2:DescribeSubnets"]

    # IAM accepts nothing narrower for these three. They only read the task definition, and check that the subnets
    # belong to the VPC. A task definition contains names of secrets, never values.
    resources = ["*"]
  }

  statement {
    sid       = "ReadLogsOfCrashedRuns"
    actions   = ["logs:GetLogEvents"]
    resources = ["${aws_cloudwatch_log_group.runs.arn}:*"]
  }

  statement {
    sid = "HearOfTasksThatStopped"
    actions = [
      "sqs:ChangeMessageVisibility",
      "sqs:DeleteMessage",
      "sqs:GetQueueUrl",
      "sqs:ReceiveMessage",
    ]
    resources = [aws_sqs_queue.task_states.arn]
  }
}

resource "aws_iam_role_policy" "worker" {
  name   = "run-tasks"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

# The flow runs' role: the permissions of bulk-ocr. Tests compare its policies with the calls that it makes.

module "policy" {
  source = "./policy"

  partition               = data.aws_partition.current.partition
  source_address          = var.source_address
  destination_address     = var.destination_address
  lists_address           = var.lists_address
  source_kms_key_arn      = var.source_kms_key_arn
  destination_kms_key_arn = var.destination_kms_key_arn
}

resource "aws_iam_role" "run" {
  name               = "${var.name}-run"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
}

resource "aws_iam_role_policy" "run" {
  for_each = module.policy.documents

  name   = each.key
  role   = aws_iam_role.run.id
  policy = each.value
}

resource "aws_iam_role_policy" "run_events" {
  count = var.create_events ? 1 : 0

  name   = "events"
  role   = aws_iam_role.run.id
  policy = templatefile("${path.module}/policy/events.json.tftpl", { queue = jsonencode(aws_sqs_queue.documents[0].arn) })
}
