# S3 announces new documents in a queue, which the flow `listen` reads; only with create_events.

resource "aws_sqs_queue" "documents" {
  count = var.create_events ? 1 : 0

  name = "${var.name}-documents"

  # Longer than a lease (600 s): by then, a document has been sent or its claim has expired.
  visibility_timeout_seconds = 900
  message_retention_seconds  = 1209600
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.documents_dead[0].arn
    maxReceiveCount     = 5
  })
}

# Messages that could not be processed five times. The next listing finds their documents anyway.
resource "aws_sqs_queue" "documents_dead" {
  count = var.create_events ? 1 : 0

  name                      = "${var.name}-documents-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_redrive_allow_policy" "documents_dead" {
  count = var.create_events ? 1 : 0

  queue_url = aws_sqs_queue.documents_dead[0].id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.documents[0].arn]
  })
}

data "aws_iam_policy_document" "documents" {
  count = var.create_events ? 1 : 0

  statement {
    sid       = "SourceBucketSends"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.documents[0].arn]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [module.policy.source_bucket_arn]
    }

    # The bucket's name alone is not enough: it could belong to another account later.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sqs_queue_policy" "documents" {
  count = var.create_events ? 1 : 0

  queue_url = aws_sqs_queue.documents[0].id
  policy    = data.aws_iam_policy_document.documents[0].json
}

resource "aws_s3_bucket_notification" "documents" {
  count = var.create_events ? 1 : 0

  bucket = module.policy.source_bucket

  queue {
    id            = "${var.name}-documents"
    queue_arn     = aws_sqs_queue.documents[0].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = module.policy.source_prefix
  }

  lifecycle {
    precondition {
      condition     = !startswith("${module.policy.destination_bucket}/${module.policy.destination_prefix}", "${module.policy.source_bucket}/${module.policy.source_prefix}")
      error_message = "The destination lies within the source: every result and ledger record would be told as a new document. Give them prefixes beside each other."
    }
  }

  # S3 sends a test message during set-up, and rejects the configuration if that is not permitted.
  depends_on = [aws_sqs_queue_policy.documents]
}
