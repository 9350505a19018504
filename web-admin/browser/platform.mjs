/** An operator meets a new company: asks, approves, gives it room, suspends, resumes, deletes it. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { inBrowser, signIn } from './browser.mjs'
import { companyOf } from './people.mjs'

export async function platform(there) {
  const { company } = await companyOf(there)
  await inBrowser({}, async (page) => {
    await signIn(page, there.address, there.firstRun.operator)
    await page.goto(there.address('/app/ops/tenants'))
    const row = page.locator('tr', { hasText: company })
    await decide(page, row, '要求补充', '营业执照号是多少？')
    await row.getByText('营业执照号是多少？').waitFor()
    await decide(page, row, '通过')
    await row.getByText('正常').waitFor()
    await plan(page, row, await terms(page, there))
    await look(page, row, company)
    await decide(page, row, '暂停', '账单未付')
    await row.getByText('已暂停').waitFor()
    await row.getByText('账单未付').waitFor()
    await decide(page, row, '恢复')
    await row.getByText('正常').waitFor()
    await remove(page, row, company)
    await fleet(page, there)
  })
}

export async function decide(page, row, action, words) {
  await row.getByRole('button', { name: action, exact: true }).click()
  const dialog = page.getByRole('dialog')
  if (words) await dialog.locator('textarea').fill(words)
  await dialog.getByRole('button', { name: action, exact: true }).click()
  await dialog.waitFor({ state: 'hidden' })
}

/** A plan of other terms; gives its name. */
async function terms(page, { address }) {
  const name = `p-${randomUUID().slice(0, 8)}`
  await page.goto(address('/app/ops/plans'))
  await page.getByRole('button', { name: '新建套餐' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('名称').fill(name)
  await dialog.getByLabel('渠道').fill('3')
  await dialog.getByRole('button', { name: '新建套餐' }).click()
  const row = page.locator('tr', { hasText: name })
  await row.getByText('与平台相同').waitFor()
  await row.getByRole('button', { name: '修改' }).click()
  await dialog.getByLabel('消息保留（天）').fill('30')
  await dialog.getByRole('button', { name: '保存' }).click()
  await row.getByText('30 天').waitFor()
  await page.goto(address('/app/ops/tenants'))
  return name
}

async function plan(page, row, name) {
  await row.getByRole('button', { name: '套餐与配额' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('套餐').selectOption(name)
  await dialog.getByLabel('成员').fill('7')
  await dialog.getByRole('button', { name: '保存' }).click()
  await dialog.waitFor({ state: 'hidden' })
  await row.getByRole('button', { name: '套餐与配额' }).click()
  assert.equal(await dialog.getByLabel('成员').inputValue(), '7')
  assert.equal(await dialog.getByLabel('渠道').getAttribute('placeholder'), '3')
  await dialog.getByRole('button', { name: '取消' }).click()
  await dialog.waitFor({ state: 'hidden' })
}

/** A look that the tenant is told of; who only looks changes nothing. */
async function look(page, row, company) {
  await row.getByRole('button', { name: '支持访问' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('原因').fill('客户报告收不到消息')
  await dialog.getByRole('button', { name: '支持访问' }).click()
  await dialog.waitFor({ state: 'hidden' })
  const mine = page.locator('tr', { hasText: '客户报告收不到消息' }).filter({ hasText: company })
  await mine.getByRole('button', { name: '查看', exact: true }).click()
  const banner = page.locator('.look')
  await banner.getByText(company).waitFor()
  await page.reload()
  await banner.getByText(company).waitFor()
  assert.equal(await page.getByRole('button', { name: '新建实例' }).count(), 0, 'who only looks may create')
  await banner.getByRole('button', { name: '离开' }).click()
  await row.getByText('正常').waitFor()
  await mine.getByRole('button', { name: '结束', exact: true }).click()
  await page.getByRole('dialog').getByRole('button', { name: '结束', exact: true }).click()
  await mine.getByText('已结束').waitFor()
}

async function remove(page, row, company) {
  await row.getByRole('button', { name: '删除', exact: true }).click()
  const dialog = page.getByRole('dialog')
  const confirm = dialog.getByRole('button', { name: '删除', exact: true })
  assert.ok(await confirm.isDisabled(), 'deleted without its name')
  await dialog.getByLabel('请输入').fill(company)
  await confirm.click()
  await row.getByText('已删除').waitFor()
}

async function fleet(page, { address }) {
  await page.goto(address('/app/ops/fleet'))
  await page.click('tbody a')
  await page.getByRole('heading', { name: '条件' }).waitFor()
}
