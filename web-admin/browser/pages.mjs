/** Every page behind the sign-in that stands on its own, with what shows that it is there. */

/** A bot's pages are found by its link on the overview. */
export async function memberPages(page, address) {
  await page.goto(address('/app/overview'))
  const bot = await page.getAttribute('article h2 a', 'href')
  return [
    { name: 'overview', path: '/app/overview', ready: 'article' },
    { name: 'bot', path: bot, ready: '.steps' },
    { name: 'channels', path: `${bot}/channels`, ready: 'article' },
    { name: 'behaviour', path: `${bot}/behaviour`, ready: 'footer' },
    { name: 'versions', path: `${bot}/versions`, ready: 'table, .state strong' },
    { name: 'logs', path: `${bot}/logs`, ready: 'pre, .state strong' },
    { name: 'search', path: '/app/search', ready: 'form[role=search]' },
    { name: 'contacts', path: '/app/contacts', ready: '.contacts .row, .state strong' },
    { name: 'providers', path: '/app/providers', ready: 'table, .state strong' },
    { name: 'answers', path: '/app/answers', ready: 'ol' },
    { name: 'blacklist', path: '/app/blacklist', ready: 'table, .state strong' },
    { name: 'team', path: '/app/team', ready: 'table' },
    { name: 'api-keys', path: '/app/api-keys', ready: 'table, .state strong' },
    { name: 'company', path: '/app/company', ready: 'progress' },
    { name: 'dead-letters', path: '/app/dead-letters', ready: 'table, .state strong' },
    { name: 'audit', path: '/app/audit', ready: 'table' },
  ]
}

export function operatorPages() {
  return [
    { name: 'tenants', path: '/app/ops/tenants', ready: 'table' },
    { name: 'fleet', path: '/app/ops/fleet', ready: 'table' },
    { name: 'rollouts', path: '/app/ops/rollouts', ready: 'table, .state strong' },
    { name: 'ops-audit', path: '/app/ops/audit', ready: 'table, .state strong' },
  ]
}
