# Two secrets, created empty. You enter their values (README.md), so they are never in Terraform's state.

resource "aws_secretsmanager_secret" "upstage" {
  name                    = "${var.name}/upstage"
  description             = "The Upstage API key, as plain text"
  recovery_window_in_days = var.secret_recovery_days
}

resource "aws_secretsmanager_secret" "prefect" {
  name                    = "${var.name}/prefect"
  description             = "Prefect, as JSON: PREFECT_API_URL, and PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
  recovery_window_in_days = var.secret_recovery_days
}
