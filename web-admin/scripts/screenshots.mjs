/**
 * Pictures of a running Botyard: node scripts/screenshots.mjs <base URL> <first-run.json> [folder]
 * Asks the demo's web chat a question, then walks through the dashboard as its admin and operator.
 */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DESKTOP, inBrowser, PHONE, place, signIn, visit } from '../browser/browser.mjs'
import { memberPages, noticePages, operatorPages, plainPages } from '../browser/pages.mjs'

const [base, firstRunFile, folder = join(import.meta.dirname, '../../screenshots')] =
  process.argv.slice(2)
if (!base || !firstRunFile) {
  console.error('usage: node scripts/screenshots.mjs <base URL> <first-run.json> [folder]')
  process.exit(2)
}

const THEMES = ['light', 'dark']
const LANGUAGES = [
  ['zh-CN', ''],
  ['en-US', '-en'],
]

const there = place(base, firstRunFile)
const { firstRun, address } = there
mkdirSync(folder, { recursive: true })

async function shoot(page, name) {
  for (const colorScheme of THEMES) {
    await page.emulateMedia({ colorScheme })
    const path = join(folder, `${name}-${colorScheme}.png`)
    await page.screenshot({ path, animations: 'disabled' })
  }
}

async function open(page, path, ready) {
  await page.goto(address(path))
  await page.waitForSelector(ready)
  await page.waitForFunction(() => document.querySelector('.spinner') === null)
}

/** Each at a desk; the first language at a phone's width as well. */
async function shootAll(page, pages, suffix) {
  for (const { name, path, ready } of pages) {
    await open(page, path, ready)
    await shoot(page, `${name}${suffix}`)
    if (suffix !== '') continue
    // Anew, as on a phone: what measured itself did so at a desk.
    await page.setViewportSize(PHONE)
    await open(page, path, ready)
    await shoot(page, `${name}-phone`)
    await page.setViewportSize(DESKTOP)
  }
}

await inBrowser({ viewport: PHONE }, async (page) => {
  await visit(page, there, '你们几点开门？')
  await page.waitForSelector('.row.bot')
  await shoot(page, 'widget')
})

for (const [locale, suffix] of LANGUAGES) {
  await inBrowser({ viewport: DESKTOP, locale }, async (page) => {
    await shootAll(page, plainPages, suffix)
    await signIn(page, address, firstRun.demo)
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
    await shootAll(page, [...noticePages, ...(await memberPages(page, address))], suffix)
  })

  await inBrowser({ viewport: DESKTOP, locale }, async (page) => {
    await signIn(page, address, firstRun.operator)
    await shootAll(page, await operatorPages(page, address), suffix)
  })
}
