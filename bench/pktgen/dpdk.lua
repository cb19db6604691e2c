-- Pktgen-DPDK against a machine that is tested: a rate for a time, or a search for the highest rate without loss.
--
--   pktgen -l 0-2 -n 4 -- -P -m "[1:1].0" -m "[2:2].1" -f bench/pktgen/dpdk.lua
--
-- Port 0 sends, port 1 receives what the tested machine sends on. Settings come from the environment:
--   NP_SIZE (64, with FCS)  NP_RATE (percent of the link, 10)  NP_SECONDS (10)  NP_NDR (1: search, from NP_RATE down)
--   NP_RESOLUTION (percent of the link, 0.1)  NP_SRC (198.18.0.1/24)  NP_DST (198.19.0.1)  NP_DST_PORT (9)  NP_DST_MAC
-- Loss is sent less received, by the ports' counters, after two seconds for what is on its way (RFC 2544, 23).

package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;../?.lua"
require "Pktgen"

local function setting(name, default)
    local text = os.getenv(name)
    if text == nil or text == "" then return default end
    if type(default) ~= "number" then return text end
    local number = tonumber(text)
    if number == nil then error(name .. " is '" .. text .. "', expected a number like " .. default) end
    return number
end

local SEND, RECEIVE = "0", "1"
local size, rate, seconds = setting("NP_SIZE", 64), setting("NP_RATE", 10), setting("NP_SECONDS", 10)
local resolution = setting("NP_RESOLUTION", 0.1)

local function set_up()
    pktgen.screen("off")
    pktgen.set(SEND, "count", 0)
    pktgen.set(SEND, "size", size)
    pktgen.set(SEND, "sport", 10000)
    pktgen.set(SEND, "dport", setting("NP_DST_PORT", 9))
    pktgen.set_proto(SEND, "udp")
    pktgen.set_ipaddr(SEND, "src", setting("NP_SRC", "198.18.0.1/24"))
    pktgen.set_ipaddr(SEND, "dst", setting("NP_DST", "198.19.0.1"))
    local mac = setting("NP_DST_MAC", "")
    if mac ~= "" then pktgen.set_mac(SEND, "dst", mac) end
end

-- Frames lost, and sent, at `percent` of the link.
local function trial(percent)
    pktgen.clr()
    pktgen.set(SEND, "rate", percent)
    pktgen.start(SEND)
    pktgen.delay(seconds * 1000)
    pktgen.stop(SEND)
    pktgen.delay(2000)
    local sent = pktgen.portStats(SEND, "port")[tonumber(SEND)].opackets
    local received = pktgen.portStats(RECEIVE, "port")[tonumber(RECEIVE)].ipackets
    print(string.format("%.3f %% of the link, %d B, %d s: %d sent, %d received, %d lost",
        percent, size, seconds, sent, received, sent - received))
    return sent - received, sent
end

local function search()
    local passed, failed, next_rate = 0, rate, rate
    repeat
        local lost, sent = trial(next_rate)
        if lost <= 0 and sent > 0 then passed = next_rate else failed = next_rate end
        next_rate = (passed + failed) / 2
    until failed - passed <= resolution or passed == rate
    print(string.format("highest rate without loss: %.3f %% of the link at %d B", passed, size))
end

set_up()
if setting("NP_NDR", 0) == 1 then search() else trial(rate) end
pktgen.quit()
