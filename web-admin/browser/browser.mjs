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
  try {
    return await walk(await context.newPage())
  } finally {
    await context.close()
    rmSync(profile, { recursive: true, force: true })
  }
}

export async function signIn(page, address, { email, password }) {
  await page.goto(address('/app/sign-in'))
  await page.fill('[name=email]', email)
  await page.fill('[name=password]', password)
  await page.click('[type=submit]')
  await page.waitForSelector('nav')
}

/** A visitor's page, who says something. */
export async function visit(page, { firstRun, address }, text) {
  await page.goto(address(new URL(firstRun.demo.webchat_url).pathname))
  await page.fill('textarea', text)
  await page.press('textarea', 'Enter')
}
