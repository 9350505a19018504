/** Fails when what a visitor downloads outgrows its budget; run after the build. */

import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { gzipSync } from 'node:zlib'

const WEBCHAT = join(import.meta.dirname, '../dist/webchat')
const APP = join(import.meta.dirname, '../dist/app')

/** Bytes, gzip: a customer's page pays for the loader, every visitor for the widget, members for the inbox. */
const LOADER_BUDGET = 2_000
const WIDGET_BUDGET = 45_000
const INBOX_BUDGET = 220_000
/** What a member's first look at the inbox loads, by its source. */
const INBOX = ['index.html', 'features/inbox/InboxPage.vue', 'locales/zh-CN/index.ts']

const files = readdirSync(WEBCHAT, { recursive: true }).filter(
  (name) => ['.js', '.css', '.html'].includes(extname(name)) && name !== 'loader.js',
)
if (!files.includes('index.html')) throw new Error('no built widget; run "npm run build" first')

const isWithin = [
  report('loader', gzipBytes(WEBCHAT, ['loader.js']), LOADER_BUDGET),
  report('widget', gzipBytes(WEBCHAT, files), WIDGET_BUDGET),
  report('inbox', gzipBytes(APP, scriptsOf(INBOX)), INBOX_BUDGET),
]
process.exitCode = isWithin.every(Boolean) ? 0 : 1

function gzipBytes(folder, names) {
  return names.reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name))).length, 0)
}

/** The scripts of these sources and all that they need to start. */
function scriptsOf(sources) {
  const manifest = JSON.parse(readFileSync(join(APP, 'manifest.json'), 'utf8'))
  const seen = new Set()
  const visit = (key) => {
    if (seen.has(key)) return
    if (!manifest[key]) throw new Error(`the build has no ${key}`)
    seen.add(key)
    manifest[key].imports?.forEach(visit)
  }
  sources.forEach(visit)
  return [...seen].map((key) => manifest[key].file).filter((file) => file.endsWith('.js'))
}

function report(what, bytes, budget) {
  console.log(`${what}: ${bytes} of ${budget} bytes gzip${bytes > budget ? ' — TOO LARGE' : ''}`)
  return bytes <= budget
}
