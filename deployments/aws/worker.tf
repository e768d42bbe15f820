# The Prefect worker: polls Prefect for scheduled flow runs and starts a Fargate task for each.

resource "aws_ecs_task_definition" "worker" {
  family                   = "${var.name}-worker"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.worker.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([{
    name            = local.container
    image           = var.worker_image
    essential       = true
    command         = ["prefect", "worker", "start", "--pool", var.work_pool, "--type", "ecs", "--with-healthcheck"]
    stopTimeout     = 60
    linuxParameters = { initProcessEnabled = true }

    environment = [
      { name = "AWS_DEFAULT_REGION", value = var.region },
      { name = "PREFECT_WORKER_WEBSERVER_PORT", value = "8080" },
      { name = "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME", value = aws_sqs_queue.task_states.name },
      { name = "DO_NOT_TRACK", value = "1" },
    ]
    secrets = concat(
      [{ name = "PREFECT_API_URL", valueFrom = "${aws_secretsmanager_secret.prefect.arn}:PREFECT_API_URL::" }],
      local.credential_secrets,
    )

    # A worker that no longer polls answers 503; the service then replaces it.
    healthCheck = {
      command     = ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
      interval    = 30
      timeout     = 10
      retries     = 3
      startPeriod = 120
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.worker.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = "worker"
      }
    }
  }])
}

resource "aws_ecs_service" "worker" {
  name            = "${var.name}-worker"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.worker.arn
  launch_type     = "FARGATE"
  desired_count   = var.worker_count

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = var.assign_public_ip
  }
}

# State changes of tasks, for the worker's observer, which marks flow runs as crashed if their task was stopped or killed.

resource "aws_sqs_queue" "task_states" {
  name                       = "${var.name}-task-states"
  visibility_timeout_seconds = 300
  message_retention_seconds  = 86400
  sqs_managed_sse_enabled    = true
}

resource "aws_cloudwatch_event_rule" "task_states" {
  name        = "${var.name}-task-states"
  description = "State changes of the tasks in cluster ${aws_ecs_cluster.this.name}"

  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail        = { clusterArn = [aws_ecs_cluster.this.arn] }
  })
}

resource "aws_cloudwatch_event_target" "task_states" {
  rule = aws_cloudwatch_event_rule.task_states.name
  arn  = aws_sqs_queue.task_states.arn
}

data "aws_iam_policy_document" "task_states" {
  statement {
    sid       = "EventBridgeSends"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.task_states.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.task_states.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "task_states" {
  queue_url = aws_sqs_queue.task_states.id
  policy    = data.aws_iam_policy_document.task_states.json
}
