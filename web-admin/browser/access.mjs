/** No serious fault of accessibility on any page or dialog, in both themes and languages. */

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'
import { inBrowser, signIn } from './browser.mjs'
import { dialogs, inboxPages, memberPages, noticePages, operatorPages, plainPages } from './pages.mjs'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export async function access(there) {
  const faults = []
  for (const locale of ['zh-CN', 'en-US']) {
    for (const [who, pages] of [['demo', memberAndNotices], ['operator', operatorPages]]) {
      await inBrowser({ locale }, async (page) => {
        if (who === 'demo') faults.push(...(await lookThrough(page, there, plainPages)))
        await signIn(page, there.address, there.firstRun[who])
        faults.push(...(await lookThrough(page, there, await pages(page, there.address))))
        await page.keyboard.press('Control+k')
        await page.waitForSelector('[role=listbox]')
        faults.push(...(await inBothThemes(page, 'palette')))
      })
    }
  }
  assert.deepEqual([...new Set(faults)], [])
}

async function memberAndNotices(page, address) {
  return [...inboxPages, ...noticePages, ...(await memberPages(page, address))]
}

/** Each page, and each dialog that opens on it. */
async function lookThrough(page, there, pages) {
  const faults = []
  for (const { name, path, ready } of pages) {
    await page.goto(there.address(path))
    await page.waitForSelector(ready)
    if (name === 'inbox') await openThread(page)
    faults.push(...(await inBothThemes(page, name)))
    for (const opener of dialogs[name] ?? []) {
      await page.click(opener)
      const dialog = page.getByRole('dialog')
      await dialog.waitFor()
      faults.push(...(await inBothThemes(page, `${name}, ${opener}`)))
      await page.keyboard.press('Escape')
      await dialog.waitFor({ state: 'hidden' })
    }
  }
  return faults
}

async function openThread(page) {
  await page.click('.list .row >> nth=0')
  await page.waitForSelector('.message')
  await page.keyboard.press('i')
  await page.waitForSelector('.contact .of-conversation')
}

async function inBothThemes(page, name) {
  const faults = []
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    // Colours on their way are nobody's fault: from one theme to the other, or of a dialog that opens.
    await page.evaluate(() => {
      const ends = ({ effect }) => effect?.getComputedTiming().endTime !== Infinity
      return Promise.allSettled(document.getAnimations().filter(ends).map((one) => one.finished))
    })
    await page.evaluate(AXE)
    const { violations, passes } = await page.evaluate(() => window.axe.run())
    assert.ok(passes.length > 10, `${name} was not looked at`)
    for (const { id, impact, nodes } of violations) {
      if (impact !== 'serious' && impact !== 'critical') continue
      faults.push(...nodes.map(({ html }) => `${name} ${colorScheme}: ${id}: ${html.slice(0, 160)}`))
    }
  }
  return faults
}
