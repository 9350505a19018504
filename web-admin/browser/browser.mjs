/** Debian's Chromium, and what people do first in it. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

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

/** As long as anything here takes on a machine with other work; what never comes fails the scene. */
const PATIENCE_MS = 90_000

export const DESKTOP = { width: 1280, height: 800 }
export const PHONE = { width: 390, height: 780 }

/** Where a running Botyard is and who may sign in, from its first-run.json. */
export function place(base, firstRunFile) {
  const firstRun = JSON.parse(readFileSync(firstRunFile, 'utf8'))
  return { firstRun, address: (path) => new URL(path, base).href }
}

/** A browser of somebody's own, which nothing is left of. */
export async function inBrowser(options, walk) {
  const profile = mkdtempSync(join(tmpdir(), 'botyard-browser-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    args: FLAGS,
    headless: true,
    locale: 'zh-CN',
    viewport: DESKTOP,
    ...options,
  })
  context.setDefaultTimeout(PATIENCE_MS)
  try {
    return await walk(await context.newPage())
  } finally {
    await context.close()
    rmSync(profile, { recursive: true, force: true })
  }
}

/** A picture of a moment in both themes, where somebody wants to see them: PICTURES=<folder>. */
export async function moment(page, name) {
  const folder = process.env.PICTURES
  if (!folder) return
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme })
    await page.screenshot({ path: join(folder, `${name}-${colorScheme}.png`), animations: 'disabled' })
  }
}

export async function signIn(page, address, { email, password }) {
  await page.goto(address('/app/sign-in'))
  await page.fill('[name=email]', email)
  await page.fill('[name=password]', password)
  await page.click('[type=submit]')
  await page.waitForSelector('nav')
}

/** A visitor's page, who says something; the demo's, if no other is named. */
export async function visit(page, { firstRun, address }, text, url = firstRun.demo.webchat_url) {
  await page.goto(address(new URL(url).pathname))
  await say(page, text)
}

export async function say(visitor, text) {
  await visitor.fill('textarea', text)
  await visitor.press('textarea', 'Enter')
}
