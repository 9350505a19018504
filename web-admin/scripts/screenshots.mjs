/**
 * Pictures of a running Botyard: node scripts/screenshots.mjs <base URL> <first-run.json> [folder]
 * Asks the demo's web chat a question, then walks through the dashboard as its admin and operator.
 */

import { mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const [base, firstRunFile, folder = join(import.meta.dirname, '../../screenshots')] =
  process.argv.slice(2)
if (!base || !firstRunFile) {
  console.error('usage: node scripts/screenshots.mjs <base URL> <first-run.json> [folder]')
  process.exit(2)
}

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
const DESKTOP = { width: 1280, height: 800 }
const PHONE = { width: 390, height: 780 }
const THEMES = ['light', 'dark']
const LANGUAGES = [
  ['zh-CN', ''],
  ['en-US', '-en'],
]

const firstRun = JSON.parse(readFileSync(firstRunFile, 'utf8'))
const address = (path) => new URL(path, base).href
const profile = mkdtempSync(join(tmpdir(), 'botyard-screenshots-'))
mkdirSync(folder, { recursive: true })

async function inBrowser(options, walk) {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    args: FLAGS,
    headless: true,
    locale: 'zh-CN',
    ...options,
  })
  try {
    await walk(await context.newPage())
  } finally {
    await context.close()
    rmSync(profile, { recursive: true, force: true })
  }
}

async function shoot(page, name) {
  for (const colorScheme of THEMES) {
    await page.emulateMedia({ colorScheme })
    const path = join(folder, `${name}-${colorScheme}.png`)
    await page.screenshot({ path, animations: 'disabled' })
  }
}

async function signIn(page, { email, password }) {
  await page.goto(address('/app/sign-in'))
  await page.fill('[name=email]', email)
  await page.fill('[name=password]', password)
  await page.click('[type=submit]')
  await page.waitForSelector('nav')
}

async function open(page, path, ready) {
  await page.goto(address(path))
  await page.waitForSelector(ready)
}

await inBrowser({ viewport: PHONE }, async (page) => {
  await page.goto(address(new URL(firstRun.demo.webchat_url).pathname))
  await page.fill('textarea', '你们几点开门？')
  await page.press('textarea', 'Enter')
  await page.waitForSelector('.row.bot')
  await shoot(page, 'widget')
})

for (const [locale, suffix] of LANGUAGES) {
  await inBrowser({ viewport: DESKTOP, locale }, async (page) => {
    await page.goto(address('/app/sign-in'))
    await page.waitForSelector('[type=submit]')
    await shoot(page, `sign-in${suffix}`)
    await signIn(page, firstRun.demo)
    await open(page, '/app/overview', 'article')
    await shoot(page, `overview${suffix}`)
    await open(page, '/app/inbox', '.list .row')
    await page.click('.list .row')
    await page.waitForSelector('.message')
    await shoot(page, `inbox${suffix}`)
    await page.keyboard.press('?')
    await page.waitForSelector('dialog dl')
    await shoot(page, `keys${suffix}`)
    await page.keyboard.press('Escape')
    await page.waitForSelector('dialog', { state: 'detached' })
    await page.keyboard.press('Control+k')
    await page.waitForSelector('[role=listbox]')
    await shoot(page, `commands${suffix}`)
    await page.keyboard.press('Escape')
    await page.waitForSelector('dialog', { state: 'detached' })
    await page.setViewportSize(PHONE)
    await shoot(page, `inbox-phone${suffix}`)
    await page.setViewportSize(DESKTOP)
    await open(page, '/app/answers', 'ol')
    await shoot(page, `answers${suffix}`)
  })

  await inBrowser({ viewport: DESKTOP, locale }, async (page) => {
    await signIn(page, firstRun.operator)
    await open(page, '/app/ops/tenants', 'table')
    await shoot(page, `tenants${suffix}`)
  })
}
