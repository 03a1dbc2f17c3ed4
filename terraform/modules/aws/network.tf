locals {
  security_group_ids = concat(aws_security_group.this[*].id, var.security_group_ids)

  egress = {
    for pair in setproduct(var.egress_ports, concat(var.egress_cidr_blocks, var.egress_ipv6_cidr_blocks)) :
    "${pair[0]}-${pair[1]}" => { port = pair[0], block = pair[1] }
  }
}

# It has no inbound rule, and none is needed: machines fetch, and report through the bucket.
resource "aws_security_group" "this" {
  #checkov:skip=CKV2_AWS_5:The launch template attaches it; a bucket and role alone have no machines yet
  count = var.create_security_group ? 1 : 0

  name        = var.name
  description = "Machines of ${var.name}: nothing comes in"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = var.name })
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each = var.create_security_group ? local.egress : {}

  security_group_id = aws_security_group.this[0].id
  description       = "The bucket, indexes and channels"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = strcontains(each.value.block, ":") ? null : each.value.block
  cidr_ipv6         = strcontains(each.value.block, ":") ? each.value.block : null
  tags              = local.tags
}
