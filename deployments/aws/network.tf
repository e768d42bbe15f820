# Allowed connections. Nothing connects to the tasks; they connect to the Upstage API, Prefect and AWS.

resource "aws_security_group" "tasks" {
  name        = "${var.name}-tasks"
  description = "Prefect worker and flow runs: no way in, HTTPS out"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.tasks.id
  description       = "Upstage API, Prefect Cloud, AWS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  # The addresses of the APIs change. A proxy or a firewall of the VPC can restrict this by name.
  cidr_ipv4 = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "prefect" {
  count = var.prefect_port == 443 ? 0 : 1

  security_group_id = aws_security_group.tasks.id
  description       = "Your Prefect server"
  ip_protocol       = "tcp"
  from_port         = var.prefect_port
  to_port           = var.prefect_port
  cidr_ipv4         = data.aws_vpc.this.cidr_block
}

data "aws_vpc" "this" {
  id = var.vpc_id
}

# Endpoints, only with create_endpoints.

resource "aws_vpc_endpoint" "s3" {
  count = var.create_endpoints ? 1 : 0

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_table_ids

  lifecycle {
    precondition {
      condition     = length(var.route_table_ids) > 0
      error_message = "S3's gateway endpoint needs the subnets' route tables: set route_table_ids."
    }
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(var.create_endpoints ? ["ecr.api", "ecr.dkr", "ecs", "logs", "secretsmanager", "sqs"] : [])

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true
}

resource "aws_security_group" "endpoints" {
  count = var.create_endpoints ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "VPC endpoints: HTTPS in from this VPC"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = var.create_endpoints ? 1 : 0

  security_group_id = aws_security_group.endpoints[0].id
  description       = "The whole VPC, since the endpoints' names are answered in all of it"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = data.aws_vpc.this.cidr_block
}
