output "work_pool_job_variables" {
  description = "Job variables of the deployments on this work pool: terraform output -json work_pool_job_variables"
  value = merge(
    {
      cluster             = aws_ecs_cluster.this.arn
      task_definition_arn = aws_ecs_task_definition.run.arn
      launch_type         = "FARGATE"
      container_name      = local.container
      vpc_id              = var.vpc_id
      network_configuration = {
        subnets        = var.subnet_ids
        securityGroups = [aws_security_group.tasks.id]
        assignPublicIp = var.assign_public_ip ? "ENABLED" : "DISABLED"
      }
    },
    # With these, the worker leaves its own credential out of the task's plain environment.
    var.prefect_credential == "PREFECT_API_KEY" ? { prefect_api_key_secret_arn = aws_secretsmanager_secret.prefect.arn } : {},
    var.prefect_credential == "PREFECT_API_AUTH_STRING" ? { prefect_api_auth_string_secret_arn = aws_secretsmanager_secret.prefect.arn } : {},
  )
}

output "work_pool" {
  description = "Name of the work pool."
  value       = var.work_pool
}

output "secrets" {
  description = "The two secrets whose values are put by hand."
  value = {
    upstage = aws_secretsmanager_secret.upstage.arn
    prefect = aws_secretsmanager_secret.prefect.arn
  }
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "worker_service" {
  description = "Name of the ECS service of the Prefect worker."
  value       = aws_ecs_service.worker.name
}

output "run_role_arn" {
  description = "Role of the flow runs, for the policies of buckets and keys that are another account's."
  value       = aws_iam_role.run.arn
}

output "log_groups" {
  description = "Where the logs are."
  value = {
    runs   = aws_cloudwatch_log_group.runs.name
    worker = aws_cloudwatch_log_group.worker.name
  }
}

output "documents_queue_url" {
  description = "URL of the queue of new documents, for queue of a place in deployments/places.yaml; null without create_events."
  value       = one(aws_sqs_queue.documents[*].url)
}
