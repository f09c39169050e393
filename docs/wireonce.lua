-- Wireshark dissector for wireonce's fabric datagrams. The format: docs/wire.md
--
--   wireshark -X lua_script:docs/wireonce.lua
--   tshark -X lua_script:docs/wireonce.lua -o wireonce.tag_length:0 -r file.pcap -V
--
-- Sealed payloads (tag length 16) are shown as they are: the keys are never on
-- disk. With encryption off (tag length 0) the blocks that start in a datagram
-- are shown, and a frame that lies wholly inside it goes to the Ethernet
-- dissector. Frames that run over a datagram's end are not reassembled.

local wireonce = Proto("wireonce", "wireonce fabric")

local VERSION = 1
local HEADER_LEN = 16
local BLOCK_HEADER_LEN = 24
local NO_BLOCK = 0xffff
local FRAME_LEN_MAX = 65557
local KIND_DATA = 0

local kinds = { [0] = "Data", [1] = "Control", [2] = "Initiation", [3] = "Response" }
local gso_kinds = { [0] = "none", [1] = "TCPv4", [2] = "TCPv6", [3] = "unknown" }

local f = {
  version = ProtoField.uint8("wireonce.version", "Version", base.DEC, nil, 0xf0),
  kind = ProtoField.uint8("wireonce.kind", "Kind", base.DEC, kinds, 0x0f),
  epoch = ProtoField.uint8("wireonce.epoch", "Key epoch (low 8 bits)"),
  first_block = ProtoField.uint16("wireonce.first_block", "First block at"),
  path_index = ProtoField.uint32("wireonce.path_index", "Path index", base.HEX),
  session = ProtoField.uint32("wireonce.session", "Receiver's session", base.DEC, nil, 0xfffff000),
  worker = ProtoField.uint32("wireonce.worker", "Sender's worker", base.DEC, nil, 0x00000ff0),
  path = ProtoField.uint32("wireonce.path", "Path", base.DEC, nil, 0x0000000f),
  packet_number = ProtoField.uint64("wireonce.packet_number", "Packet number"),
  sealed = ProtoField.bytes("wireonce.sealed", "Sealed payload"),
  tag = ProtoField.bytes("wireonce.tag", "Tag"),
  opaque = ProtoField.bytes("wireonce.payload", "Payload"),
  continued = ProtoField.bytes("wireonce.continued", "Goes on from an earlier datagram"),
  padding = ProtoField.bytes("wireonce.padding", "Padding"),
  block = ProtoField.none("wireonce.block", "Block"),
  destination = ProtoField.uint64("wireonce.block.destination", "Destination", base.HEX),
  source = ProtoField.uint64("wireonce.block.source", "Source", base.HEX),
  destination_name = ProtoField.string("wireonce.block.destination_name", "Destination endpoint"),
  source_name = ProtoField.string("wireonce.block.source_name", "Source endpoint"),
  len = ProtoField.uint32("wireonce.block.len", "Length"),
  flags = ProtoField.uint8("wireonce.block.flags", "Flags", base.HEX),
  flag_len = ProtoField.bool("wireonce.block.flags.len16", "Length bit 16", 8, nil, 0x01),
  flag_open = ProtoField.bool("wireonce.block.flags.csum", "Checksum requested", 8, nil, 0x02),
  flag_valid = ProtoField.bool("wireonce.block.flags.csum_valid", "Checksum valid", 8, nil, 0x04),
  flag_ecn = ProtoField.bool("wireonce.block.flags.ecn", "Segmentation with ECN", 8, nil, 0x08),
  flag_gso = ProtoField.uint8("wireonce.block.flags.gso", "Segmentation", base.DEC, gso_kinds, 0x30),
  csum_offset = ProtoField.uint8("wireonce.block.csum_offset", "Checksum offset"),
  csum_start = ProtoField.uint16("wireonce.block.csum_start", "Checksum start"),
  gso_size = ProtoField.uint16("wireonce.block.gso_size", "Segment size"),
  part = ProtoField.bytes("wireonce.block.part", "Start of the frame; the rest is in later datagrams"),
  link = ProtoField.bytes("wireonce.block.link", "Message to the link"),
}
wireonce.fields = f

local e_version = ProtoExpert.new("wireonce.bad_version", "Unknown version or kind",
  expert.group.MALFORMED, expert.severity.ERROR)
local e_offset = ProtoExpert.new("wireonce.bad_offset", "No block header fits at the first block's offset",
  expert.group.MALFORMED, expert.severity.ERROR)
local e_block = ProtoExpert.new("wireonce.bad_block", "Not a block header",
  expert.group.MALFORMED, expert.severity.ERROR)
wireonce.experts = { e_version, e_offset, e_block }

wireonce.prefs.ports = Pref.range("UDP ports", "4790-4853", "Ports of the workers' fabric sockets", 65535)
wireonce.prefs.tag_length = Pref.uint("Tag length", 16,
  "Bytes of the authentication tag: 16, or 0 if encryption is off")

local ethernet = Dissector.get("eth_withoutfcs")
local udp_ports = DissectorTable.get("udp.port")

-- "vnic 7", "uplink 3", "network 9", "link", or nil. The top two bits are the kind.
local function endpoint_name(bits)
  local kind = bits:rshift(62):tonumber()
  local number = bits:band(UInt64.new(0xffffffff, 0x3fffffff))
  if kind == 0 then
    return number == UInt64(0) and "link" or "vnic " .. tostring(number)
  elseif kind == 1 and number < UInt64.new(0, 1) then
    return "uplink " .. tostring(number)
  elseif kind == 2 and number < UInt64(0x1000000) then
    return "network " .. tostring(number)
  end
  return nil
end

-- Shows a padding that takes the rest of the payload.
local function add_padding(payload, at, tree)
  if at < payload:len() then
    tree:add(f.padding, payload(at))
  end
end

-- Shows the fields of the header at `at`; returns the names of both ends.
local function add_block_header(payload, at, len, tree)
  local to, from = payload(at, 8), payload(at + 8, 8)
  local to_name = endpoint_name(to:le_uint64())
  local from_name = endpoint_name(from:le_uint64())
  tree:add_le(f.destination, to):append_text(" (" .. (to_name or "no endpoint") .. ")")
  tree:add_le(f.source, from):append_text(" (" .. (from_name or "no endpoint") .. ")")
  if to_name and from_name then
    tree:add(f.destination_name, to, to_name):set_generated()
    tree:add(f.source_name, from, from_name):set_generated()
  end
  tree:add(f.len, payload(at + 16, 3), len)
  local flags = payload(at + 18, 1)
  local flag_tree = tree:add(f.flags, flags)
  for _, field in ipairs({ f.flag_len, f.flag_open, f.flag_valid, f.flag_ecn, f.flag_gso }) do
    flag_tree:add(field, flags)
  end
  tree:add(f.csum_offset, payload(at + 19, 1))
  tree:add_le(f.csum_start, payload(at + 20, 2))
  tree:add_le(f.gso_size, payload(at + 22, 2))
  return to_name, from_name
end

-- Shows the block at `at`; returns where the next one starts, or nil at the end.
local function add_block(payload, at, pinfo, tree, root)
  local len = payload(at + 16, 2):le_uint() + 65536 * (payload(at + 18, 1):uint() % 2)
  if len == 0 then
    add_padding(payload, at, tree)
    return nil
  end
  local body = at + BLOCK_HEADER_LEN
  local here = math.min(len, payload:len() - body)
  local block_tree = tree:add(f.block, payload(at, BLOCK_HEADER_LEN + here))
  local to, from = add_block_header(payload, at, len, block_tree)
  if not to or not from or len > FRAME_LEN_MAX or payload(at + 18, 1):uint() >= 0x40 then
    block_tree:add_proto_expert_info(e_block)
    return nil
  end
  block_tree:set_text(string.format("Block: %s -> %s, %d bytes", from, to, len))
  if here < len then
    block_tree:append_text(string.format(", %d of them here", here))
    if here > 0 then
      block_tree:add(f.part, payload(body, here))
    end
    return nil
  end
  if to == "link" then
    block_tree:add(f.link, payload(body, len))
  else
    ethernet:call(payload(body, len):tvb(), pinfo, root)
  end
  return body + len
end

-- Shows the clear-text payload of a data datagram; returns how many blocks start in it.
local function add_blocks(payload, first_block, pinfo, tree, root)
  if first_block == NO_BLOCK then
    tree:add(f.continued, payload())
    return 0
  end
  if first_block + BLOCK_HEADER_LEN > payload:len() then
    tree:add_proto_expert_info(e_offset)
    return 0
  end
  if first_block > 0 then
    tree:add(f.continued, payload(0, first_block))
  end
  local at, count = first_block, 0
  while at and at + BLOCK_HEADER_LEN <= payload:len() do
    at = add_block(payload, at, pinfo, tree, root)
    count = at and count + 1 or count
  end
  if at then
    add_padding(payload, at, tree)
  end
  return count
end

local function add_header(tvb, tree)
  tree:add(f.version, tvb(0, 1))
  tree:add(f.kind, tvb(0, 1))
  tree:add(f.epoch, tvb(1, 1))
  local first = tree:add_le(f.first_block, tvb(2, 2))
  if tvb(2, 2):le_uint() == NO_BLOCK then
    first:append_text(" (no block starts here)")
  end
  local index = tree:add_le(f.path_index, tvb(4, 4))
  index:add_le(f.session, tvb(4, 4))
  index:add_le(f.worker, tvb(4, 4))
  index:add_le(f.path, tvb(4, 4))
  tree:add_le(f.packet_number, tvb(8, 8))
end

function wireonce.dissector(tvb, pinfo, root)
  if tvb:len() < HEADER_LEN then
    return 0
  end
  local version = math.floor(tvb(0, 1):uint() / 16)
  local kind = tvb(0, 1):uint() % 16
  local tree = root:add(wireonce, tvb())
  if version ~= VERSION or not kinds[kind] then
    tree:add_proto_expert_info(e_version)
    return 0
  end
  add_header(tvb, tree)
  local packet_number = tostring(tvb(8, 8):le_uint64())
  local info = string.format("%s, packet %s", kinds[kind], packet_number)
  tree:append_text(": " .. info)

  local tag_len = wireonce.prefs.tag_length
  local payload_len = tvb:len() - HEADER_LEN
  if kind ~= KIND_DATA then
    if payload_len > 0 then
      tree:add(f.opaque, tvb(HEADER_LEN))
    end
  elseif tag_len > 0 and payload_len >= tag_len then
    if payload_len > tag_len then
      tree:add(f.sealed, tvb(HEADER_LEN, payload_len - tag_len))
    end
    tree:add(f.tag, tvb(tvb:len() - tag_len))
  elseif tag_len == 0 and payload_len > 0 then
    add_blocks(tvb(HEADER_LEN):tvb(), tvb(2, 2):le_uint(), pinfo, tree, root)
  end
  -- After the frames inside, which write these columns too.
  pinfo.cols.protocol = "wireonce"
  pinfo.cols.info = info
  return tvb:len()
end

local ports = nil
local function register()
  if ports then
    udp_ports:remove(ports, wireonce)
  end
  ports = wireonce.prefs.ports
  udp_ports:add(ports, wireonce)
end

register()
function wireonce.prefs_changed()
  register()
end
