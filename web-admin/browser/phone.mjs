/** At a phone's width nothing runs out of the page sideways, and a finger reaches whatever can be pressed. */

import assert from 'node:assert/strict'
import { inBrowser, PHONE, signIn, visit } from './browser.mjs'
import { dialogs, memberPages, noticePages, operatorPages, plainPages } from './pages.mjs'

const QUESTION = '你们几点开门？'
const REPLY = '从手机回复您。'

export async function phone(there) {
  const faults = []
  await inBrowser({ viewport: PHONE }, async (visitor) => {
    await visit(visitor, there, QUESTION)
    await visitor.waitForSelector('.row.bot')
    faults.push(...(await outOfReach(visitor, 'widget')))
    for (const locale of ['zh-CN', 'en-US']) {
      await onPhone(locale, async (page) => {
        faults.push(...(await lookThrough(page, there, plainPages)))
        await signIn(page, there.address, there.firstRun.demo)
        faults.push(...(await inbox(page, there)))
        await alerted(page, there)
        faults.push(...(await lookThrough(page, there, [...noticePages, ...(await memberPages(page, there.address))])))
      })
      await onPhone(locale, async (page) => {
        await signIn(page, there.address, there.firstRun.operator)
        faults.push(...(await lookThrough(page, there, await operatorPages(page, there.address))))
      })
    }
    // Once from each language.
    await visitor.waitForSelector(`:nth-match(.row:has-text("${REPLY}"), 2)`)
  })
  assert.deepEqual([...new Set(faults)], [])
}

function onPhone(locale, walk) {
  return inBrowser({ viewport: PHONE, hasTouch: true, isMobile: true, locale }, walk)
}

/** From the list into a thread, an answer, the contact, and back to the list. */
async function inbox(page, { address }) {
  const faults = []
  await page.goto(address('/app/inbox'))
  await page.waitForSelector('.list .row')
  faults.push(...(await outOfReach(page, 'inbox')))
  await page.tap(`.list .row`)
  await page.waitForSelector('.thread .message')
  assert.ok(await page.locator('.list').isHidden(), 'the list stands beside the thread')
  if ((await page.locator('.composer').count()) === 0) await page.tap('.bar .el-button--primary')
  await page.waitForSelector('.composer textarea')
  faults.push(...(await outOfReach(page, 'thread')))
  await page.tap('.composer textarea')
  await page.keyboard.type(REPLY)
  await page.tap('.composer [type=submit]')
  await page.waitForSelector(`.message.human:has-text("${REPLY}")`)
  await page.tap('.bar .actions button >> nth=-1')
  await page.waitForSelector('.contact .of-conversation')
  faults.push(...(await outOfReach(page, 'contact')))
  await page.tap('.contact button >> nth=0')
  await page.tap('.bar .back')
  await page.waitForSelector('.list .row')
  assert.ok(await page.locator('.thread').isHidden(), 'the thread stands beside the list')
  return faults
}

/** The navigation has no room for the switch; it is on one's own page. */
async function alerted(page, { address }) {
  await page.goto(address('/app/account'))
  const choice = page.locator('main .alerts input')
  for (const isOn of [true, false]) {
    await choice.tap()
    assert.equal(await choice.isChecked(), isOn)
    assert.equal(await page.evaluate(() => localStorage.getItem('botyard.alerts')), isOn ? 'on' : 'off')
  }
}

async function lookThrough(page, { address }, pages) {
  const faults = []
  for (const { name, path, ready } of pages) {
    await page.goto(address(path))
    await page.waitForSelector(ready)
    faults.push(...(await outOfReach(page, name)))
    for (const opener of dialogs[name] ?? []) {
      await page.tap(opener)
      const dialog = page.getByRole('dialog')
      await dialog.waitFor()
      faults.push(...(await outOfReach(page, `${name}, ${opener}`, '[role=dialog]')))
      await page.keyboard.press('Escape')
      await dialog.waitFor({ state: 'hidden' })
    }
  }
  return faults
}

/** What scrolls sideways without being made for it, and what cannot be pressed although it is there. */
async function outOfReach(page, name, within = 'body') {
  const found = await page.evaluate((root) => {
    const named = (element) => `${element.tagName.toLowerCase()}.${element.className} ${element.textContent.trim().slice(0, 40)}`
    /** Tables, tabs, logs and code are read sideways; everything else is not. */
    const isMadeForIt = (element) => element.closest('nav, .frame, .view[role=log], pre, code, textarea') !== null
    const scrolls = (element) =>
      element.scrollWidth > element.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(element).overflowX)
    const isWide = document.documentElement.scrollWidth > document.documentElement.clientWidth
    const sideways = [...document.body.querySelectorAll('*')].filter((each) => scrolls(each) && !isMadeForIt(each))
    const isHit = (element) => {
      element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' })
      const [box] = element.getClientRects()
      const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2)
      return hit !== null && (element.contains(hit) || hit.contains(element) || hit.closest('label')?.contains(element))
    }
    const pressed = [...document.querySelector(root).querySelectorAll('button, a[href], input, select, textarea')]
    const hidden = pressed.filter((each) => each.checkVisibility({ visibilityProperty: true }) && each.getClientRects().length > 0 && !each.disabled && !isHit(each))
    return [
      ...(isWide ? ['the page is wider than the screen'] : []),
      ...sideways.map((each) => `scrolls sideways: ${named(each)}`),
      ...hidden.map((each) => `cannot be pressed: ${named(each)}`),
    ]
  }, within)
  return found.map((fault) => `${name}: ${fault}`)
}
