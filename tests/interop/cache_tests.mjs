// The npm package `http-cache-tests`: 350 probes of what a cache keeps, changes and serves. Through a
// gateway that is no cache every verdict must be the one of a direct run.
//
// Prints one JSON object: the verdict of each test.

import { pathToFileURL } from 'node:url'
import { readFileSync } from 'node:fs'
import https from 'node:https'

const { VIA, CA, CHAIN, KEY, NAME, MODULES } = process.env
const load = (path) => import(pathToFileURL(`${MODULES}/${path}`))
const suite = 'http-cache-tests'
const { fetch, Agent, ProxyAgent } = (await load('undici/index.js')).default
const { runTests, getResults } = await load(`${suite}/client/runner.mjs`)
const tests = (await load(`${suite}/tests/index.mjs`)).default
tests.push((await load(`${suite}/tests/surrogate-control.mjs`)).default)

const handlers = {}
for (const one of ['config', 'state', 'test']) {
  handlers[one] = (await load(`${suite}/server/handle-${one}.mjs`)).default
}
const server = https.createServer({ cert: readFileSync(CHAIN), key: readFileSync(KEY) }, (request, response) => {
  const [kind, ...rest] = new URL(request.url, 'https://any').pathname.slice(1).split('/')
  if (kind in handlers) return handlers[kind](rest, request, response)
  response.writeHead(404).end()
})
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))

// A busy machine is slow to connect; that is not what is tested.
const trust = { ca: readFileSync(CA), servername: NAME, timeout: 60_000 }
const AT_ONCE = 100
const here = (name, options, found) => found(null, options.all ? [{ address: '127.0.0.1', family: 4 }] : '127.0.0.1', 4)
let dispatcher = new Agent({ connect: { ...trust, lookup: here } })
if (VIA) {
  const proxy = new URL(VIA)
  const login = decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password)
  const token = proxy.username ? 'Basic ' + Buffer.from(login).toString('base64') : undefined
  dispatcher = new ProxyAgent({ uri: proxy.origin, token, requestTls: trust, proxyTls: { timeout: 60_000 } })
}
const through = (url, options) => fetch(url, { ...options, dispatcher })

// The server of the suite talks while it serves.
console.error = console.log = () => {}
// As its own command line does.
await runTests(tests, through, false, `https://${NAME}:${server.address().port}`, AT_ONCE)
const results = getResults()
const verdict = (result) => result === true ? 'pass' : `${result[0]}: ${result[1]}`
const { version } = JSON.parse(readFileSync(`${MODULES}/${suite}/package.json`))
process.stdout.write(JSON.stringify({
  suite: `cache-tests ${version}`,
  verdicts: Object.fromEntries(Object.entries(results).map(([id, result]) => [id, verdict(result)]))
}) + '\n', () => process.exit(0))
