-- Moves money between accounts and notes the number of the transaction, in the same transaction;
-- what is acknowledged is noted outside of the database, a line for each, with its times.
local ffi = require("ffi")
ffi.cdef[[
typedef struct { long seconds, nanoseconds; } quiesce_time;
int clock_gettime(int clock, quiesce_time *now);
]]

sysbench.cmdline.options = {
  ledger = {"Prefix of the files that acknowledged transactions are noted in", ""},
  engines = {"What tables are stored in, separated by commas", "InnoDB"},
  accounts = {"How many accounts there are in each", 10000},
}

local clock = ffi.new("quiesce_time")
local n = 0

local function now()
  ffi.C.clock_gettime(0, clock)
  return tonumber(clock.seconds) + tonumber(clock.nanoseconds) / 1e9
end

function thread_init()
  connection = sysbench.sql.driver():connect()
  ledger = io.open(sysbench.opt.ledger .. "." .. sysbench.tid, "w")
  ledger:setvbuf("line")
  engines = {}
  for engine in sysbench.opt.engines:gmatch("[^,]+") do
    engines[#engines + 1] = engine
  end
end

function event()
  -- In the order of their numbers, so that no two transactions wait for each other.
  local first = sysbench.rand.uniform(1, sysbench.opt.accounts - 1)
  local second = sysbench.rand.uniform(first + 1, sysbench.opt.accounts)
  local amount = sysbench.rand.uniform(1, 1000)
  local sent = now()
  connection:query("BEGIN")
  for _, engine in ipairs(engines) do
    local text = sysbench.rand.string(string.rep("@", 100))
    connection:query(string.format("UPDATE accounts_%s SET balance = balance - %d, text = '%s' WHERE id = %d", engine, amount, text, first))
    connection:query(string.format("UPDATE accounts_%s SET balance = balance + %d, text = '%s' WHERE id = %d", engine, amount, text, second))
    connection:query(string.format("INSERT INTO noted_%s (client, n) VALUES (%d, %d)", engine, sysbench.tid, n + 1))
  end
  connection:query("COMMIT")
  n = n + 1
  ledger:write(string.format("%.6f %.6f\n", sent, now()))
end

function thread_done()
  connection:disconnect()
  ledger:close()
end
