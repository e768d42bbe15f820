# The flow runs: a task definition that the work pool refers to, so that the worker need not be able to create any.

resource "aws_ecs_task_definition" "run" {
  family                   = "${var.name}-run"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.run_cpu
  memory                   = var.run_memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.run.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  ephemeral_storage {
    size_in_gib = var.run_storage_gib
  }

  container_definitions = jsonencode([{
    name      = local.container
    image     = var.image
    essential = true

    # After SIGTERM, uploads in progress are completed and recorded. Two minutes is Fargate's maximum.
    stopTimeout     = 120
    linuxParameters = { initProcessEnabled = true }

    environment = [
      for name, value in merge({ AWS_DEFAULT_REGION = var.region }, var.run_environment) : { name = name, value = value }
    ]
    secrets = concat(
      [{ name = "UPSTAGE_API_KEY", valueFrom = aws_secretsmanager_secret.upstage.arn }],
      local.credential_secrets,
    )

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.runs.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = "run"
      }
    }
  }])
}
