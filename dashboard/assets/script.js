// Comfort for the pages of package dashboard. Everything works without it.
'use strict';
(() => {
  const all = (selector, f) => document.querySelectorAll(selector).forEach(f);
  const two = n => String(n).padStart(2, '0');
  let lang = document.documentElement.lang || 'en';
  try { new Intl.DateTimeFormat(lang); } catch { lang = 'en'; }

  // The name of the reader's zone at a time, such as "GMT+1".
  const zone = at => new Intl.DateTimeFormat(lang, {timeZoneName: 'short'}).formatToParts(at)
    .find(part => part.type === 'timeZoneName').value;
  const date = at => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = at => `${two(at.getHours())}:${two(at.getMinutes())}`;

  // Times in the reader's zone.
  const show = time => {
    const at = new Date(time.dateTime);
    if (isNaN(at)) return;
    const seconds = 'seconds' in time.dataset ? ':' + two(at.getSeconds()) : '';
    time.title = time.textContent;
    time.textContent = `${date(at)} ${clock(at)}${seconds} ${zone(at)}`;
  };
  all('.keys-pages time[datetime]', show);

  // Inputs of times mean the reader's zone. The offset travels with the form.
  const east = at => String(-at.getTimezoneOffset());
  all('.keys-pages [data-zone]', span => { span.textContent = zone(new Date()); });
  all('.keys-pages input[type=datetime-local]', input => {
    if (input.dataset.instant) {
      const at = new Date(input.dataset.instant);
      input.value = `${date(at)}T${clock(at)}`;
    }
    const hidden = input.form.querySelector(`input[name=${input.name}Offset]`);
    input.form.addEventListener('submit', () => {
      hidden.value = input.value ? east(new Date(input.value)) : '';
    });
  });

  // What the select "Expires" means.
  const expires = document.querySelector('.keys-pages select[name=expires]');
  if (expires) {
    const input = expires.form.querySelector('input[name=date]');
    const offset = expires.form.querySelector('input[name=offset]');
    const until = expires.form.querySelector('[data-until]');
    const end = () => { // of the day
      const [year, month, day] = input.value.split('-').map(Number);
      return new Date(year, month - 1, day + 1);
    };
    const update = () => {
      all('[data-expires]', span => { span.hidden = span.dataset.expires !== expires.value; });
      const custom = expires.value === 'custom';
      input.closest('.custom').hidden = !custom;
      until.hidden = !custom || !input.value;
      offset.value = '';
      if (!custom || !input.value) return;
      offset.value = east(end());
      const time = until.querySelector('time');
      time.dateTime = end().toISOString();
      show(time);
    };
    expires.addEventListener('change', update);
    input.addEventListener('input', update);
    update();
  }

  // A scope that a checked wildcard covers says so.
  const included = () => all('.keys-pages .scope', scope => {
    const box = scope.querySelector('input');
    const note = scope.querySelector('.included');
    note.id ||= box.id + '-included';
    const help = box.id + '-help';
    box.setAttribute('aria-describedby', note.checkVisibility?.() ? help + ' ' + note.id : help);
  });
  all('.keys-pages form.key', form => { form.addEventListener('change', included); included(); });

  // Copy, also without the clipboard API, which plain HTTP does not have.
  all('.keys-pages [data-copy]', button => {
    const input = document.getElementById(button.dataset.copy);
    const status = document.querySelector('[data-copy-status]');
    button.hidden = false;
    button.addEventListener('click', async () => {
      let copied = false;
      try {
        await navigator.clipboard.writeText(input.value);
        copied = true;
      } catch {
        input.focus();
        input.select();
        copied = document.execCommand('copy');
      }
      status.textContent = copied ? button.dataset.done : button.dataset.failed;
    });
  });

  // A key does not come back with Back.
  addEventListener('pagehide', () => {
    all('[data-secret]', input => { input.value = ''; });
    all('.keys-pages pre', pre => { pre.textContent = ''; });
  });

  // Until the first request with a new key.
  const waiting = document.querySelector('[data-waiting]');
  if (waiting) {
    let left = 120;
    const timer = setInterval(async () => {
      if (document.hidden) return;
      if (left-- === 0) clearInterval(timer);
      try {
        const answer = await fetch(waiting.dataset.waiting);
        if (answer.ok && (await answer.json()).used) location.reload();
      } catch { /* the next time */ }
    }, 5000);
  }
})();
