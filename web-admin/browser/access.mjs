/** No serious fault of accessibility on any page, in both themes and languages. */

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'
import { inBrowser, signIn } from './browser.mjs'
import { memberPages, operatorPages } from './pages.mjs'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const INBOX = { name: 'inbox', path: '/app/inbox', ready: '.list .row' }

export async function access(there) {
  const faults = []
  for (const locale of ['zh-CN', 'en-US']) {
    for (const [who, pages] of [['demo', inboxAndConsole], ['operator', operatorPages]]) {
      await inBrowser({ locale }, async (page) => {
        await page.goto(there.address('/app/sign-in'))
        await page.waitForSelector('[type=submit]')
        faults.push(...(await inBothThemes(page, 'sign-in')))
        await signIn(page, there.address, there.firstRun[who])
        for (const { name, path, ready } of await pages(page, there.address)) {
          await page.goto(there.address(path))
          await page.waitForSelector(ready)
          if (name === 'inbox') await openThread(page)
          faults.push(...(await inBothThemes(page, name)))
        }
        await page.keyboard.press('Control+k')
        await page.waitForSelector('[role=listbox]')
        faults.push(...(await inBothThemes(page, 'palette')))
      })
    }
  }
  assert.deepEqual([...new Set(faults)], [])
}

async function inboxAndConsole(page, address) {
  return [INBOX, ...(await memberPages(page, address))]
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
    // Colours on their way from one theme to the other are nobody's fault.
    await page.evaluate(() =>
      Promise.allSettled(document.getAnimations().filter((one) => one instanceof CSSTransition).map((one) => one.finished)),
    )
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
