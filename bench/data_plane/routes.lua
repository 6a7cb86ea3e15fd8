-- wrk: GETs spread evenly over all routes of a layout, with the fields of a browser's call of an API.
-- Arguments: hosts, prefixes on each, rest of the path.
--
-- There are as many different requests however few routes they go to: who sends and receives them meets as much memory
-- with one route as with thousands, and what a request costs more then is the proxy's own.
local COUNT = 10000
local requests, at = {}, 0

local fields = {
  ["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  ["accept"] = "application/json, text/plain, */*",
  ["accept-language"] = "en-GB,en;q=0.7,el;q=0.3",
  ["accept-encoding"] = "gzip, deflate, br, zstd",
}

function init(args)
  local hosts, prefixes, rest = tonumber(args[1]), tonumber(args[2]), args[3]
  for i = 0, math.max(COUNT, hosts * prefixes) - 1 do
    local host, prefix = math.floor(i / prefixes) % hosts, i % prefixes
    local path = prefixes == 1 and "/api/" or "/p" .. prefix .. "/"
    fields["Host"] = "h" .. host .. ".bench.example.com"
    fields["x-request-id"] = string.format("7f9c2ba4-e88f-4cd1-b8a6-5c3f1d%06d", i)
    requests[i + 1] = wrk.format("GET", path .. rest, fields)
  end
end

function request()
  -- A step that has no factor in common with the number of requests: all are visited, neighbours not one after the other.
  at = (at + 7919) % #requests
  return requests[at + 1]
end

function done(summary)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("result done=%d failed=%d seconds=%f\n", summary.requests, failed, summary.duration / 1e6))
end
