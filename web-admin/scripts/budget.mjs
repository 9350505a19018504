/** Fails when what a visitor downloads outgrows its budget; run after the build. */

import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { gzipSync } from 'node:zlib'

const WEBCHAT = join(import.meta.dirname, '../dist/webchat')

/** Bytes, gzip: a customer's page pays for the loader, every visitor for the widget. */
const LOADER_BUDGET = 2_000
const WIDGET_BUDGET = 45_000

const files = readdirSync(WEBCHAT, { recursive: true }).filter(
  (name) => ['.js', '.css', '.html'].includes(extname(name)) && name !== 'loader.js',
)
if (!files.includes('index.html')) throw new Error('no built widget; run "npm run build" first')

const isWithin = [
  report('loader', gzipBytes(['loader.js']), LOADER_BUDGET),
  report('widget', gzipBytes(files), WIDGET_BUDGET),
]
process.exitCode = isWithin.every(Boolean) ? 0 : 1

function gzipBytes(names) {
  return names.reduce((sum, name) => sum + gzipSync(readFileSync(join(WEBCHAT, name))).length, 0)
}

function report(what, bytes, budget) {
  console.log(`${what}: ${bytes} of ${budget} bytes gzip${bytes > budget ? ' — TOO LARGE' : ''}`)
  return bytes <= budget
}
